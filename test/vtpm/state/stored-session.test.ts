import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TPM_ALG } from '../../../src/tpm/constants/index.js';
import { decode, encode } from '../../../src/tpm/schema.js';
import type { TPMT_SYM_DEF_PLUS } from '../../../src/tpm/structures/index.js';
import type { Session } from '../../../src/vtpm/state/session.js';
import { fromStoredSession, storedSession, toStoredSession } from '../../../src/vtpm/state/stored/stored-session.js';

const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const maybe = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(of, { nil: undefined });
const uint32 = fc.nat(0xffffffff);
const time = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const ciphers: readonly TPMT_SYM_DEF_PLUS[] = [
  { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB },
  { algorithm: TPM_ALG.XOR, keyBits: TPM_ALG.SHA256, mode: null },
  { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
];

const plainObject = { noNullPrototype: true } as const;

const session: fc.Arbitrary<Session> = fc.record(
  {
    handle: uint32,
    isPolicy: fc.boolean(),
    isTrial: fc.boolean(),
    authHash: fc.constantFrom(TPM_ALG.SHA1, TPM_ALG.SHA256),
    symmetric: fc.constantFrom(...ciphers),
    sessionKey: bytes(64),
    nonceTPM: bytes(64),
    boundEntity: maybe(bytes(68)),
    daBound: fc.boolean(),
    lockoutBound: fc.boolean(),
    auditDigest: maybe(bytes(64)),
    startTime: time,
    epoch: uint32,
    policy: fc.record(
      {
        digest: bytes(64),
        commandCode: uint32,
        bound: maybe(
          fc.record(
            { kind: fc.constantFrom('cpHash' as const, 'nameHash' as const, 'templateHash' as const), digest: bytes(64) },
            plainObject,
          ),
        ),
        pcrCounter: maybe(uint32),
        timeout: time,
        locality: fc.nat(255),
        authValueNeeded: fc.boolean(),
        passwordNeeded: fc.boolean(),
        physicalPresence: fc.boolean(),
        nvWritten: maybe(fc.boolean()),
      },
      plainObject,
    ),
  },
  plainObject,
);

describe('a session in a saved context', () => {
  it('comes back as it was, with memory of its own', () => {
    fc.assert(
      fc.property(session, (original) => {
        const encoding = encode(storedSession, toStoredSession(original));
        const copy = fromStoredSession(decode(storedSession, encoding));
        encoding.fill(0);
        assert.deepEqual(copy, original);
      }),
    );
  });
});
