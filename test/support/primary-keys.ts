// Keys that a test needs to have something to work with.
import { CreatePrimary, FlushContext } from '../../src/tpm/commands/index.js';
import { TPM_RH } from '../../src/tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Execute, none, run } from './frames.js';

/** A loaded key. */
export interface LoadedKey {
  readonly handle: number;
  readonly publicArea: TPMT_PUBLIC;
  readonly name: Buffer;
}

/** What {@link createPrimary} takes besides the template. */
export interface PrimaryOptions {
  readonly hierarchy?: number;
  readonly auth?: string;
  readonly data?: Buffer;
}

/** A primary key, of the owner unless told otherwise. */
export async function createPrimary(execute: Execute, inPublic: TPMT_PUBLIC, options: PrimaryOptions = {}): Promise<LoadedKey> {
  const { hierarchy = TPM_RH.OWNER, auth = '', data = none } = options;
  const inSensitive = { userAuth: Buffer.from(auth), data };
  const out = await run(execute, CreatePrimary, { primaryHandle: hierarchy, inSensitive, inPublic, outsideInfo: none, creationPCR: [] });
  return { handle: out.objectHandle, publicArea: out.outPublic, name: Buffer.from(out.name) };
}

/** FlushContext of each. */
export async function flush(execute: Execute, ...handles: readonly number[]): Promise<void> {
  for (const flushHandle of handles) await run(execute, FlushContext, { flushHandle });
}
