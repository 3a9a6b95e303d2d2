// Who can send commands to the chip, as those see it who send several: the chip itself while it is set up, a turn after that.
import type { AnyCommand, Request, Response } from '../../tpm/command.js';
import { GetCapability } from '../../tpm/commands/index.js';
import { TPM_CAP } from '../../tpm/constants/index.js';

/** How one handle of a command is authorized, or how a command that needs no authorization is protected. */
export type Authorization =
  /** The long-lived session; `authValue` is undefined where it only protects the command. */
  | { readonly kind: 'session'; readonly authValue: Buffer | undefined }
  /** A password, in clear on the bus. */
  | { readonly kind: 'password'; readonly authValue: Buffer }
  /** A policy session of the caller's that is neither salted nor bound and whose policy asks for no authValue. */
  | { readonly kind: 'policy'; readonly handle: number };

/** How a command is executed. */
export interface ExecuteOptions {
  /** Names of the handles, in order; a handle that is its own Name (permanent, PCR, session) is left undefined. */
  readonly names?: readonly (Buffer | undefined)[];
  /** Authorization value of the first handle that needs one (default: empty); it goes into the long-lived session's HMAC. */
  readonly authValue?: Buffer;
  /** Instead of {@link authValue}: what each handle that needs authorization gets, then further sessions. */
  readonly authorizations?: readonly Authorization[];
  /** Puts a command that needs no authorization into the long-lived session. */
  readonly protect?: boolean;
  /** Aborted when nobody waits for the command any more: it is not sent then, nor sent again to a chip that was busy. */
  readonly signal?: AbortSignal | undefined;
}

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

/**
 * What `use` does with an object or session that the caller made, which is flushed after that. Where `use` fails its error is the one
 * that counts: a chip that was restarted has nothing to flush.
 */
export async function flushedAfter<T>(sender: CommandSender, handle: number, use: () => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await use();
  } catch (error) {
    await sender.flush(handle).catch(() => undefined);
    throw error;
  }
  await sender.flush(handle);
  return result;
}

const HANDLES_PER_QUERY = 254;

/** Handles in the chip, of the type and from the number of `first` on (Part 3, 30.2). */
export async function listHandles(sender: CommandSender, first: number): Promise<number[]> {
  const request = { capability: TPM_CAP.HANDLES, property: first, propertyCount: HANDLES_PER_QUERY };
  const { capabilityData } = await sender.execute(GetCapability, request);
  return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
}
