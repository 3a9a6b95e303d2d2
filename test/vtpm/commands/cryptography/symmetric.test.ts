// EncryptDecrypt and EncryptDecrypt2, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  CreatePrimary,
  EncryptDecrypt,
  EncryptDecrypt2,
  FlushContext,
  HashSequenceStart,
  ReadPublic,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT, TPMA_SESSION } from '../../../../src/tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../../../src/tpm/structures/index.js';
import { assertSame, assertSameCode, type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, parse, run } from '../../../support/frames.js';
import { aesCfb, ClientSession, runWithSessions } from '../../../support/sessions.js';
import { cipherTemplate, eccTemplate, type PublicOf } from '../../../support/templates.js';

const { AES, CAMELLIA, TDES, CFB, CTR, OFB, CBC, ECB, CMAC, NULL } = TPM_ALG;
const modes = [CFB, CTR, OFB, CBC, ECB, NULL] as const;
const keyHandle = 0x80000000;

type Cipher = PublicOf<typeof TPM_ALG.SYMCIPHER>;
const known = (sym: Cipher['parameters']['sym'], attributes = 0): Cipher => {
  const template = cipherTemplate(sym);
  return { ...template, objectAttributes: (template.objectAttributes & ~TPMA_OBJECT.sensitiveDataOrigin) | attributes };
};

describe('symmetric encryption', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });

  async function withKey(inPublic: TPMT_PUBLIC, data: Buffer, test: () => Promise<void>): Promise<void> {
    const inSensitive = { userAuth: none, data };
    const created = await both.code(CreatePrimary, {
      primaryHandle: TPM_RH.NULL,
      inSensitive,
      inPublic,
      outsideInfo: none,
      creationPCR: [],
    });
    if (created !== 0) return;
    try {
      await test();
    } finally {
      await flush();
    }
  }

  async function flush(): Promise<void> {
    for (const execute of [both.ours.execute, both.theirs.execute]) await run(execute, FlushContext, { flushHandle: keyHandle });
  }

  /** After a block that is not full `ivOut` means nothing: the reference code returns whatever its library leaves there. */
  async function sameData(command: typeof EncryptDecrypt | typeof EncryptDecrypt2, bytes: Buffer, isWhole: boolean): Promise<void> {
    const answers = await both.both(bytes);
    assertSameCode(answers, bytes.toString('hex'));
    if (isWhole) assertSame(answers, bytes.toString('hex'));
    else assert.deepEqual(parse(command, answers.ours).out?.outData, parse(command, answers.theirs).out?.outData);
  }

  for (const [algorithm, keyBits, name] of [
    [AES, 128, 'AES-128'],
    [AES, 256, 'AES-256'],
    [CAMELLIA, 128, 'Camellia-128'],
    [TDES, 192, 'TDES'],
  ] as const) {
    it(`${name}: every mode, with and without a mode in the key`, async () => {
      const block = algorithm === TDES ? 8 : 16;
      const key = Buffer.from('0123456789abcdeffedcba98765432100f1e2d3c4b5a69788796a5b4c3d2e1f0', 'hex').subarray(0, keyBits / 8);
      for (const own of modes) {
        await withKey(known({ algorithm, keyBits, mode: own } as Cipher['parameters']['sym']), key, async () => {
          for (const mode of modes) {
            for (const size of [0, 1, block, 3 * block, 40, 1024]) {
              for (const iv of [0, block]) {
                for (const decrypt of [0, 1] as const) {
                  const request = { keyHandle, decrypt, mode, ivIn: Buffer.alloc(iv, 0xfe), inData: Buffer.alloc(size, 0x31) };
                  await sameData(EncryptDecrypt, frame(EncryptDecrypt, request), size % block === 0);
                  if (own === NULL) await sameData(EncryptDecrypt2, frame(EncryptDecrypt2, request), size % block === 0);
                }
              }
            }
          }
        });
      }
    });
  }

  it('keys that may not', async () => {
    const request = { keyHandle, decrypt: 0, mode: CFB, ivIn: Buffer.alloc(16), inData: Buffer.alloc(16) } as const;
    const sym = { algorithm: AES, keyBits: 128, mode: CFB } as const;
    const key = Buffer.alloc(16, 9);
    const refuse = async (): Promise<void> => {
      for (const decrypt of [0, 1] as const) await both.code(EncryptDecrypt, { ...request, decrypt });
    };
    await withKey({ ...known(sym), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign }, key, refuse);
    await withKey({ ...known(sym), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.decrypt }, key, refuse);
    await withKey({ ...cipherTemplate(sym), objectAttributes: 0x30060 }, none, refuse);
    await withKey({ ...known({ ...sym, mode: CMAC }), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign }, key, refuse);
    await withKey(eccTemplate(), none, refuse);
    await both.runSame(HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
    await refuse();
    await flush();
    await refuse();
  });

  it('EncryptDecrypt2 in an encrypting session', async () => {
    await withKey(known({ algorithm: AES, keyBits: 128, mode: CTR }), Buffer.alloc(16, 3), async () => {
      const answers: unknown[] = [];
      for (const execute of [both.ours.execute, both.theirs.execute]) {
        const name = await nameOf(execute);
        const session = await ClientSession.start(execute, { symmetric: aesCfb });
        const use = { session, attributes: TPMA_SESSION.encrypt | TPMA_SESSION.decrypt };
        const request = { keyHandle, decrypt: 0, mode: NULL, ivIn: Buffer.alloc(16, 1), inData: Buffer.from('plain text') } as const;
        answers.push(await runWithSessions(execute, EncryptDecrypt2, request, [use], new Map([[keyHandle, name]])));
      }
      assert.deepEqual(answers[0], answers[1]);
    });
  });
});

async function nameOf(execute: Differential['ours']['execute']): Promise<Buffer> {
  return (await run(execute, ReadPublic, { objectHandle: keyHandle }, [])).name;
}
