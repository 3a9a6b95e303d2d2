// TPM 2.0 Library Part 1, 30.3: how a sequence is written into a saved context. Encryption is the writer's business.
import { HASH_COUNT, MAX_DIGEST_SIZE } from '../../../tpm/constants/index.js';
import { type Infer, list, struct, tpm2b, uint16, uint8 } from '../../../tpm/schema.js';
import { TPM2B_AUTH } from '../../../tpm/structures/index.js';
import type { SavedSequence, SequenceType } from '../../sequences/sequence.js';

/** Bytes of the largest hash block, to which an HMAC key is padded. */
const MAX_BLOCK_SIZE = 2 * MAX_DIGEST_SIZE;

/** A sequence as plain data. */
export const storedSequence = struct({
  version: uint8,
  type: uint8,
  authValue: TPM2B_AUTH,
  states: list(struct({ alg: uint16, state: tpm2b(512) }), HASH_COUNT),
  macKey: tpm2b(MAX_BLOCK_SIZE),
  head: tpm2b(4),
});
export type StoredSequence = Infer<typeof storedSequence>;

/** The position of a type here is stored. */
const types: readonly SequenceType[] = ['hash', 'hmac', 'event', 'cmac'];

/** What `Sequence.save` gave, as plain data. */
export function toStoredSequence({ type, authValue, states, macKey, head }: SavedSequence): StoredSequence {
  return { version: 1, type: types.indexOf(type), authValue, states: [...states], macKey, head };
}

/** What `Sequence.restore` takes; all bytes are copied. */
export function fromStoredSequence({ type, authValue, states, macKey, head }: StoredSequence): SavedSequence {
  return {
    type: types[type] ?? 'hash',
    authValue: Buffer.from(authValue),
    states: states.map(({ alg, state }) => ({ alg, state: Buffer.from(state) })),
    macKey: Buffer.from(macKey),
    head: Buffer.from(head),
  };
}
