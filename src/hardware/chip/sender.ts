// Who can send commands to the chip, as those see it who send several: the chip itself while it is set up, a turn after that.
import type { AnyCommand, Request, Response } from '../../tpm/command.js';
import { FlushContext, GetCapability } from '../../tpm/commands/index.js';
import { TPM_CAP } from '../../tpm/constants/index.js';
import type { ExecuteOptions } from './authorization.js';

/** Sends commands to the chip, one at a time. */
export interface CommandSender {
  /**
   * Executes one command. Rejects with `ChipError` if the chip refuses it, `ChipRestarted` if the chip lost its handles,
   * `ChipUnavailable` if it is gone, `ChipCleared` if it is not the right one any more, `ChipFailing` if it has failed,
   * `ResponseForged` if the response does not verify. Byte fields of the result are views into a buffer that is the caller's alone.
   */
  execute<C extends AnyCommand>(of: C, request: Request<C>, options?: ExecuteOptions): Promise<Response<C>>;
  /** `TPM2_FlushContext` of an object or session that the caller made. It is sent also for a guest that gave up. */
  flush(handle: number): Promise<void>;
}

const HANDLES_PER_QUERY = 254;

/** Handles in the chip, of the type and from the number of `first` on (Part 3, 30.2). */
export async function listHandles(sender: CommandSender, first: number): Promise<number[]> {
  const request = { capability: TPM_CAP.HANDLES, property: first, propertyCount: HANDLES_PER_QUERY };
  const { capabilityData } = await sender.execute(GetCapability, request);
  return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
}

/** {@link CommandSender.flush} by means of `execute`. */
export async function flushBy({ execute }: { readonly execute: CommandSender['execute'] }, flushHandle: number): Promise<void> {
  await execute(FlushContext, { flushHandle });
}
