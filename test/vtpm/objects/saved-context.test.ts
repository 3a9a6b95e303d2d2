// TPM 2.0 Library Part 2, 14.4: what programs that decode saved contexts find in them.
import assert from 'node:assert/strict';
import { ContextSave, HashSequenceStart, StartAuthSession } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE } from '../../../src/tpm/constants/index.js';
import { decode } from '../../../src/tpm/schema.js';
import { TPMS_CONTEXT_DATA } from '../../../src/tpm/structures/index.js';
import { none, run } from '../../support/frames.js';
import { createPrimary } from '../../support/primary-keys.js';
import { eccTemplate } from '../../support/templates.js';
import { openTestTpm } from '../../support/vtpm.js';

const start = {
  tpmKey: TPM_RH.NULL,
  bind: TPM_RH.NULL,
  nonceCaller: Buffer.alloc(16, 1),
  encryptedSalt: none,
  sessionType: TPM_SE.HMAC,
  symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
  authHash: TPM_ALG.SHA256,
} as const;

describe('a saved context', () => {
  it('of an object, session or sequence decodes as a TPMS_CONTEXT_DATA', async () => {
    const { execute } = await openTestTpm();
    const key = await createPrimary(execute, eccTemplate());
    const { sessionHandle } = await run(execute, StartAuthSession, start);
    const { sequenceHandle } = await run(execute, HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
    for (const handle of [key.handle, sessionHandle, sequenceHandle]) {
      const { context } = await run(execute, ContextSave, { saveHandle: handle });
      const { integrity, encrypted } = decode(TPMS_CONTEXT_DATA, context.contextBlob);
      assert.ok(integrity.length >= 16 && encrypted.length > 0, handle.toString(16));
    }
  });
});
