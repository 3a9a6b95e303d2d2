import assert from 'node:assert/strict';
import { TPM_ALG, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import { Hash, Sign, VerifySignature } from '../../../../src/tpm/commands/index.js';
import { TPM_RC } from '../../../../src/tpm/response-code.js';
import type { TPMT_PUBLIC, TPMT_SIGNATURE } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { none, run } from '../../../support/frames.js';
import { createPrimary, flush } from '../../../support/primary-keys.js';
import { eccTemplate, hmacTemplate, rsaTemplate } from '../../../support/templates.js';

const digest = Buffer.alloc(32, 9);
const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;
const ecdsa = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;
const rsapss = { scheme: TPM_ALG.RSAPSS, details: { hashAlg: TPM_ALG.SHA256 } } as const;
const signOnly = (template: TPMT_PUBLIC): TPMT_PUBLIC => ({
  ...template,
  objectAttributes: (template.objectAttributes & ~TPMA_OBJECT.decrypt) | TPMA_OBJECT.sign,
});

describe('signing commands beside swtpm', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
  });
  after(() => pair.stop());

  /** The same key, as far as it can be, on both; its handle is the same. */
  async function bothCreate(template: TPMT_PUBLIC): Promise<number> {
    const [ours] = await Promise.all([pair.ours, pair.theirs].map((tpm) => createPrimary(tpm.execute, template)));
    assert.ok(ours);
    return ours.handle;
  }
  const bothFlush = async (handle: number): Promise<void> => {
    for (const tpm of [pair.ours, pair.theirs]) await flush(tpm.execute, handle);
  };

  it('choose the scheme of key and caller, and refuse what does not fit', async () => {
    const keyHandle = await bothCreate(signOnly(eccTemplate()));
    const sign = (over: object) => pair.code(Sign, { keyHandle, digest, inScheme: ecdsa, validation: noTicket, ...over });
    assert.equal(await sign({}), TPM_RC.SUCCESS);
    await sign({ inScheme: noScheme });
    await sign({ inScheme: rsapss });
    await sign({ digest: digest.subarray(1) });
    await sign({ validation: { ...noTicket, digest: Buffer.alloc(64) } });
    await bothFlush(keyHandle);
  });

  it('sign with a restricted key only what the TPM has hashed', async () => {
    const template = signOnly(rsaTemplate());
    const restricted = {
      ...template,
      objectAttributes: template.objectAttributes | TPMA_OBJECT.restricted,
      parameters: { ...template.parameters, scheme: rsapss },
    } as TPMT_PUBLIC;
    const keyHandle = await bothCreate(restricted);
    await pair.code(Sign, { keyHandle, digest, inScheme: noScheme, validation: noTicket });
    const hashed = await pair.run(Hash, { data: Buffer.from('data'), hashAlg: TPM_ALG.SHA256, hierarchy: TPM_RH.OWNER });
    for (const [tpm, { outHash, validation }] of [[pair.ours, hashed.ours] as const, [pair.theirs, hashed.theirs] as const]) {
      await run(tpm.execute, Sign, { keyHandle, digest: outHash, inScheme: noScheme, validation });
    }
    await bothFlush(keyHandle);
  });

  it('verify an HMAC with a key of the same scheme and hash only', async () => {
    const keyHandle = await bothCreate(hmacTemplate());
    const signature = (hashAlg: typeof TPM_ALG.SHA256 | typeof TPM_ALG.SHA1, size: number): TPMT_SIGNATURE => ({
      sigAlg: TPM_ALG.HMAC,
      signature: { hashAlg, digest: Buffer.alloc(size, 1) },
    });
    await pair.code(VerifySignature, { keyHandle, digest, signature: signature(TPM_ALG.SHA256, 32) });
    await pair.code(VerifySignature, { keyHandle, digest, signature: signature(TPM_ALG.SHA1, 20) });
    await bothFlush(keyHandle);
  });
});
