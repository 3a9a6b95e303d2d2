// PolicySigned, PolicySecret, PolicyTicket and PolicyAuthorize with real keys and tickets, on a vTPM and on swtpm.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  LoadExternal,
  NV_DefineSpace,
  NV_Write,
  PolicyAuthorize,
  PolicyCommandCode,
  PolicyGetDigest,
  PolicySecret,
  PolicySigned,
  PolicyTicket,
  StartAuthSession,
  Startup,
  VerifySignature,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_NT, TPM_RH, TPM_SE, TPM_ST, TPM_SU, TPMA_NV, TPMA_NV_NT_SHIFT } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { nameOfPublic } from '../../../src/tpm/name.js';
import type { TPMT_SIGNATURE, TPMT_TK_AUTH } from '../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { flush } from '../../support/primary-keys.js';
import { eccSigner, rsaSigner, signerKinds } from '../../support/signers.js';

const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const alg = TPM_ALG.SHA256;

/** What PolicySigned and PolicySecret take besides handles and signature. */
interface Terms {
  readonly nonceTPM: Buffer;
  readonly cpHashA: Buffer;
  readonly policyRef: Buffer;
  readonly expiration: number;
}
const unlimited: Terms = { nonceTPM: none, cpHashA: none, policyRef: none, expiration: 0 };

function signedData({ nonceTPM, cpHashA, policyRef, expiration }: Terms): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(expiration);
  return Buffer.concat([nonceTPM, bytes, cpHashA, policyRef]);
}

async function startPolicy(
  execute: Execute,
  sessionType: typeof TPM_SE.POLICY | typeof TPM_SE.TRIAL = TPM_SE.POLICY,
): Promise<{ policySession: number; nonce: Buffer }> {
  const request = {
    tpmKey: TPM_RH.NULL,
    bind: TPM_RH.NULL,
    nonceCaller: Buffer.alloc(32),
    encryptedSalt: none,
    symmetric: noCipher,
    authHash: alg,
  };
  const { sessionHandle, nonceTPM } = await run(execute, StartAuthSession, { ...request, sessionType });
  return { policySession: sessionHandle, nonce: Buffer.from(nonceTPM) };
}

const digestOf = async (execute: Execute, policySession: number): Promise<string> =>
  (await run(execute, PolicyGetDigest, { policySession })).policyDigest.toString('hex');

describe('signed authorizations', () => {
  let pair: Differential;
  let sides: readonly Execute[];
  before(async () => {
    pair = await startDifferential();
    sides = [pair.ours.execute, pair.theirs.execute];
  });
  after(() => pair.stop());

  /** Does the same on both sides and compares what comes out. */
  async function both<T>(action: (execute: Execute) => Promise<T>): Promise<T> {
    const [ours, theirs] = [await action(pair.ours.execute), await action(pair.theirs.execute)];
    assert.deepEqual(ours, theirs);
    return ours;
  }

  for (const [name, make, hierarchy] of signerKinds) {
    it(`by an ${name} key`, async () => {
      const signer = make();
      const codes = await both(async (execute) => {
        const { objectHandle: authObject } = await run(execute, LoadExternal, {
          inPrivate: signer.inPrivate,
          inPublic: signer.publicArea,
          hierarchy,
        });
        const { policySession, nonce } = await startPolicy(execute);
        const found: (number | string)[] = [];
        const attempt = async (terms: Terms, signed: Terms = terms): Promise<void> => {
          const auth = signer.sign(signedData(signed));
          found.push(
            codeOf(await execute(frame(PolicySigned, { authObject, policySession, ...terms, auth }))),
            await digestOf(execute, policySession),
          );
        };
        await attempt(unlimited);
        await attempt({ ...unlimited, nonceTPM: nonce, expiration: 100 });
        await attempt({ ...unlimited, nonceTPM: nonce, policyRef: Buffer.from('ref'), expiration: -100 });
        await attempt({ ...unlimited, policyRef: Buffer.from('a') }, { ...unlimited, policyRef: Buffer.from('b') });
        await attempt({ ...unlimited, expiration: 1000 }, unlimited);
        await attempt({ ...unlimited, nonceTPM: Buffer.alloc(32, 9) });
        await attempt({ ...unlimited, cpHashA: Buffer.alloc(20) });
        await attempt({ ...unlimited, cpHashA: Buffer.alloc(32, 1) });
        await attempt({ ...unlimited, cpHashA: Buffer.alloc(32, 2) });
        await attempt({ ...unlimited, expiration: -0x80000000 });
        await attempt({ ...unlimited, expiration: 0x7fffffff });
        await flush(execute, policySession, authObject);
        return found;
      });
      assert.deepEqual(
        codes.filter((_, i) => i % 2 === 0),
        [0, 0, 0, 0x5db, 0x5db, 0x1cf, 0x2d5, 0, 0x151, 0, 0],
      );
    });
  }

  it('are refused with a signature of another scheme', async () => {
    const [rsa, ecc] = [rsaSigner(), eccSigner()];
    await both(async (execute) => {
      const { objectHandle: authObject } = await run(execute, LoadExternal, {
        inPrivate: null,
        inPublic: rsa.publicArea,
        hierarchy: TPM_RH.OWNER,
      });
      const { policySession } = await startPolicy(execute);
      const signatures: readonly TPMT_SIGNATURE[] = [
        ecc.sign(signedData(unlimited)),
        { sigAlg: TPM_ALG.ECDAA, signature: { hash: alg, signatureR: none, signatureS: none } },
        { sigAlg: TPM_ALG.HMAC, signature: { hashAlg: alg, digest: Buffer.alloc(32) } },
        { sigAlg: TPM_ALG.RSASSA, signature: { hash: alg, sig: Buffer.alloc(255) } },
      ];
      const codes: number[] = [];
      for (const auth of signatures)
        codes.push(codeOf(await execute(frame(PolicySigned, { authObject, policySession, ...unlimited, auth }))));
      await flush(execute, policySession, authObject);
      return codes;
    });
  });

  it('are not checked in a trial session', async () => {
    const signer = eccSigner();
    await both(async (execute) => {
      const { objectHandle: authObject } = await run(execute, LoadExternal, {
        inPrivate: null,
        inPublic: signer.publicArea,
        hierarchy: TPM_RH.OWNER,
      });
      const { policySession } = await startPolicy(execute, TPM_SE.TRIAL);
      const auth = signer.sign(none);
      const out = await run(execute, PolicySigned, {
        authObject,
        policySession,
        ...unlimited,
        nonceTPM: Buffer.alloc(5),
        expiration: -5,
        auth,
      });
      const digest = await digestOf(execute, policySession);
      await flush(execute, policySession, authObject);
      return { ...out, digest };
    });
  });

  it('give tickets that stand for them', async () => {
    const signer = eccSigner();
    const authName = nameOfPublic(signer.publicArea);
    await both(async (execute) => {
      const { objectHandle: authObject } = await run(execute, LoadExternal, {
        inPrivate: null,
        inPublic: signer.publicArea,
        hierarchy: TPM_RH.OWNER,
      });
      const first = await startPolicy(execute);
      const found: unknown[] = [];
      for (const nonceTPM of [first.nonce, none]) {
        const terms = { nonceTPM, cpHashA: Buffer.alloc(32, 1), policyRef: Buffer.from('ref'), expiration: -200 };
        const issued = await run(execute, PolicySigned, {
          authObject,
          policySession: first.policySession,
          ...terms,
          auth: signer.sign(signedData(terms)),
        });
        const ticket: TPMT_TK_AUTH = { ...issued.policyTicket, digest: Buffer.from(issued.policyTicket.digest) };
        const timeout = Buffer.from(issued.timeout);
        found.push(ticket.tag, ticket.hierarchy, ticket.digest.length > 0, timeout.length);
        const { policySession } = await startPolicy(execute);
        const good = { policySession, timeout, cpHashA: terms.cpHashA, policyRef: terms.policyRef, authName, ticket };
        const later = Buffer.from(timeout);
        later[7] = (later[7] ?? 0) ^ 1;
        const forged = Buffer.from(ticket.digest);
        forged[0] = (forged[0] ?? 0) ^ 1;
        const flag = Buffer.from(timeout);
        flag[0] = (flag[0] ?? 0) ^ 0x80;
        for (const change of [
          { timeout: later },
          { timeout: flag },
          { timeout: none },
          { timeout: Buffer.alloc(7) },
          { timeout: Buffer.alloc(8) },
          { cpHashA: none },
          { cpHashA: Buffer.alloc(32, 2) },
          { cpHashA: Buffer.alloc(31) },
          { policyRef: none },
          { authName: authName.subarray(1) },
          { ticket: { ...ticket, digest: forged } },
          { ticket: { ...ticket, digest: none } },
          { ticket: { ...ticket, hierarchy: TPM_RH.PLATFORM } },
          { ticket: { ...ticket, hierarchy: TPM_RH.NULL, digest: none } },
          { ticket: { ...ticket, tag: TPM_ST.AUTH_SECRET } },
          {},
        ]) {
          found.push(codeOf(await execute(frame(PolicyTicket, { ...good, ...change }))));
        }
        found.push(await digestOf(execute, policySession));
        const trial = await startPolicy(execute, TPM_SE.TRIAL);
        found.push(codeOf(await execute(frame(PolicyTicket, { ...good, policySession: trial.policySession }))));
        await flush(execute, policySession, trial.policySession);
      }
      await flush(execute, first.policySession, authObject);
      return found;
    });
  });

  it('give tickets for PolicySecret, of the hierarchy of the entity', async () => {
    const attributes = TPMA_NV.NO_DA | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
    for (const [nvIndex, type] of [
      [0x01500000, TPM_NT.PIN_PASS],
      [0x01500001, TPM_NT.PIN_FAIL],
    ] as const) {
      const publicInfo = { nvIndex, nameAlg: alg, attributes: attributes | (type << TPMA_NV_NT_SHIFT), authPolicy: none, dataSize: 8 };
      await pair.code(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
      await pair.code(NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.of(0, 0, 0, 0, 0, 0, 0, 9), offset: 0 });
    }
    await both(async (execute) => {
      const found: unknown[] = [];
      for (const authHandle of [TPM_RH.OWNER, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM, TPM_RH.LOCKOUT, 0, 0x01500000, 0x01500001]) {
        const { policySession, nonce } = await startPolicy(execute);
        const out = await run(execute, PolicySecret, { authHandle, policySession, ...unlimited, nonceTPM: nonce, expiration: -10 });
        found.push(
          out.policyTicket.hierarchy,
          out.policyTicket.digest.length > 0,
          out.timeout.length,
          await digestOf(execute, policySession),
        );
        await flush(execute, policySession);
      }
      return found;
    });
  });

  it('end with their time, and tickets with the power cycle', async () => {
    const authName = Buffer.alloc(4);
    authName.writeUInt32BE(TPM_RH.OWNER);
    const tickets = await Promise.all(
      sides.map(async (execute) => {
        const { policySession } = await startPolicy(execute);
        const found = [];
        for (const expiration of [-0x7fffffff, -1000]) {
          const issued = await run(execute, PolicySecret, { authHandle: TPM_RH.OWNER, policySession, ...unlimited, expiration });
          found.push({
            timeout: Buffer.from(issued.timeout),
            ticket: { ...issued.policyTicket, digest: Buffer.from(issued.policyTicket.digest) },
          });
        }
        return found;
      }),
    );
    const use = async (): Promise<number[][]> =>
      Promise.all(
        sides.map(async (execute, i) => {
          const { policySession } = await startPolicy(execute);
          const codes: number[] = [];
          for (const issued of tickets[i] ?? []) {
            codes.push(codeOf(await execute(frame(PolicyTicket, { policySession, cpHashA: none, policyRef: none, authName, ...issued }))));
          }
          await flush(execute, policySession);
          return codes;
        }),
      );
    assert.deepEqual(await use(), [
      [0, 0],
      [0, 0],
    ]);
    await pair.powerCycle();
    await pair.code(Startup, { startupType: TPM_SU.CLEAR });
    assert.deepEqual(await use(), [
      [0x5e0, 0x5e0],
      [0x5e0, 0x5e0],
    ]);
  });

  it('are too late when Time has passed', async () => {
    // Both TPMs count in seconds, by a clock that nothing else moves.
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const since = async (execute: Execute): Promise<{ codes: number[]; milliseconds: number }> => {
      const began = performance.now();
      const { policySession, nonce } = await startPolicy(execute);
      const codes: number[] = [];
      // Without a nonce the time counts from the power-on, which is more than two seconds ago.
      for (const nonceTPM of [none, nonce]) {
        codes.push(
          codeOf(await execute(frame(PolicySecret, { authHandle: TPM_RH.OWNER, policySession, ...unlimited, nonceTPM, expiration: 1 }))),
        );
      }
      await flush(execute, policySession);
      return { codes, milliseconds: performance.now() - began };
    };
    await both(async (execute) => {
      let result = await since(execute);
      // A machine that took a second for that has been too late with the nonce too.
      while (result.milliseconds >= 1000) result = await since(execute);
      assert.deepEqual(result.codes, [0x4e3, 0]);
      return result.codes;
    });
  });
});

describe('PolicyAuthorize', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
  });
  after(() => pair.stop());

  for (const [name, make, hierarchy] of signerKinds) {
    it(`with the signature of an ${name} key`, async () => {
      const signer = make();
      const keySign = nameOfPublic(signer.publicArea);
      const policyRef = Buffer.from('ref');
      const results: unknown[][] = [];
      for (const execute of [pair.ours.execute, pair.theirs.execute]) {
        const found: unknown[] = [];
        const { objectHandle } = await run(execute, LoadExternal, { inPrivate: signer.inPrivate, inPublic: signer.publicArea, hierarchy });
        const { policySession } = await startPolicy(execute);
        await run(execute, PolicyCommandCode, { policySession, code: TPM_CC.NV_Read });
        const approvedPolicy = Buffer.from((await run(execute, PolicyGetDigest, { policySession })).policyDigest);
        const signed = Buffer.concat([approvedPolicy, policyRef]);
        const { validation } = await run(execute, VerifySignature, {
          keyHandle: objectHandle,
          digest: hash(alg, signed),
          signature: signer.sign(signed),
        });
        const checkTicket = { ...validation, digest: Buffer.from(validation.digest) };
        found.push(checkTicket.hierarchy, checkTicket.digest.length > 0);
        const good = { policySession, approvedPolicy, policyRef, keySign, checkTicket };
        for (const change of [
          { policyRef: none },
          { approvedPolicy: none },
          { keySign: Buffer.concat([keySign.subarray(0, 2), randomBytes(32)]) },
          { checkTicket: { ...checkTicket, hierarchy: TPM_RH.ENDORSEMENT } },
          { checkTicket: { ...checkTicket, hierarchy: TPM_RH.NULL, digest: none } },
          {},
          {},
        ]) {
          found.push(codeOf(await execute(frame(PolicyAuthorize, { ...good, ...change }))));
        }
        found.push(await digestOf(execute, policySession));
        await flush(execute, policySession, objectHandle);
        results.push(found);
      }
      assert.deepEqual(results[0], results[1]);
    });
  }
});
