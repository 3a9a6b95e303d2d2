// MAC and MAC_Start with CMAC keys, side by side with swtpm (its HMAC has the same command codes).
import assert from 'node:assert/strict';
import {
  ContextLoad,
  ContextSave,
  CreatePrimary,
  FlushContext,
  HMAC,
  HMAC_Start,
  SequenceComplete,
  SequenceUpdate,
} from '../../../../src/tpm/commands/index.js';
import { cmac } from '../../../../src/crypto/cmac.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../../../src/tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, password, rawFrame, run } from '../../../support/frames.js';
import { cipherTemplate, eccTemplate, hmacTemplate, type PublicOf, sealTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { AES, CAMELLIA, CMAC, CFB, SHA1, SHA256, SHA512 } = TPM_ALG;
const FIRST = 0x80000000;
const schemes = [CMAC, TPM_ALG.NULL, SHA256, SHA1, SHA512] as const;
type Sym = PublicOf<typeof TPM_ALG.SYMCIPHER>['parameters']['sym'];
const macKey = (sym: Sym, extra = 0): TPMT_PUBLIC => ({
  ...cipherTemplate(sym),
  objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign | extra,
});

describe('MACs', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  const executes = (): Differential['ours']['execute'][] => [both.ours.execute, both.theirs.execute];
  afterEach(flush);
  async function flush(): Promise<void> {
    for (const execute of executes()) for (const flushHandle of [FIRST, FIRST + 1]) await execute(frame(FlushContext, { flushHandle }));
  }
  async function primary(inPublic: TPMT_PUBLIC, data: Buffer): Promise<number> {
    const inSensitive = { userAuth: Buffer.from('k'), data };
    return both.code(CreatePrimary, { primaryHandle: TPM_RH.NULL, inSensitive, inPublic, outsideInfo: none, creationPCR: [] });
  }
  const key = (bits: number): Buffer => Buffer.alloc(bits / 8, 0x6b);

  for (const [algorithm, keyBits] of [
    [AES, 128],
    [AES, 256],
    [CAMELLIA, 128],
  ] as const) {
    for (const mode of [CMAC, TPM_ALG.NULL] as const) {
      it(`algorithm ${algorithm.toString()}, ${keyBits.toString()} bits, mode ${mode.toString()}`, async () => {
        assert.equal(await primary(macKey({ algorithm, keyBits, mode }), key(keyBits)), 0);
        for (const hashAlg of schemes) {
          for (const size of [0, 1, 15, 16, 17, 64, 1024]) {
            await both.same(frame(HMAC, { handle: FIRST, buffer: Buffer.alloc(size, size), hashAlg }, [password('k')]));
          }
          const started = await both.code(HMAC_Start, { handle: FIRST, auth: Buffer.from('s'), hashAlg }, [password('k')]);
          if (started !== 0) continue;
          const sequence = { sequenceHandle: FIRST + 1 };
          for (const size of [0, 5, 27, 64])
            await both.code(SequenceUpdate, { ...sequence, buffer: Buffer.alloc(size, 3) }, [password('s')]);
          await both.runSame(SequenceComplete, { ...sequence, buffer: Buffer.alloc(9), hierarchy: TPM_RH.OWNER }, [password('s')]);
        }
      });
    }
  }

  // The swtpm of Debian 12 does not survive this.
  it('a sequence in a saved context', async () => {
    const { execute } = await openTestTpm();
    const inSensitive = { userAuth: none, data: key(128) };
    const inPublic = macKey({ algorithm: AES, keyBits: 128, mode: CMAC });
    await run(execute, CreatePrimary, { primaryHandle: TPM_RH.NULL, inSensitive, inPublic, outsideInfo: none, creationPCR: [] });
    const pieces = [Buffer.from('more than a block of data'), Buffer.from('end')] as const;
    const { sequenceHandle } = await run(execute, HMAC_Start, { handle: FIRST, auth: none, hashAlg: CMAC });
    await run(execute, SequenceUpdate, { sequenceHandle, buffer: pieces[0] });
    const { context } = await run(execute, ContextSave, { saveHandle: sequenceHandle });
    await run(execute, FlushContext, { flushHandle: sequenceHandle });
    const { loadedHandle } = await run(execute, ContextLoad, { context });
    const { result } = await run(execute, SequenceComplete, { sequenceHandle: loadedHandle, buffer: pieces[1], hierarchy: TPM_RH.NULL });
    assert.deepEqual(result, cmac(AES, key(128), Buffer.concat(pieces)));
  });

  it('keys that make no such MAC', async () => {
    const sym = { algorithm: AES, keyBits: 128, mode: CMAC } as const;
    const origin = TPMA_OBJECT.sensitiveDataOrigin;
    const keys: readonly TPMT_PUBLIC[] = [
      macKey({ ...sym, mode: CFB }, origin),
      { ...macKey(sym), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.decrypt | origin },
      macKey(sym, origin | TPMA_OBJECT.restricted),
      macKey(sym, origin | TPMA_OBJECT.decrypt),
      cipherTemplate({ ...sym, mode: TPM_ALG.NULL }),
      { ...cipherTemplate({ ...sym, mode: TPM_ALG.NULL }), objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.decrypt | origin },
      hmacTemplate(),
      sealTemplate(),
      eccTemplate(),
    ];
    for (const inPublic of keys) {
      const data = inPublic.objectAttributes & origin ? none : Buffer.from('sealed');
      if ((await primary(inPublic, data)) !== 0) continue;
      for (const hashAlg of schemes) {
        await both.code(HMAC, { handle: FIRST, buffer: none, hashAlg }, [password('k')]);
        await both.code(HMAC_Start, { handle: FIRST, auth: none, hashAlg }, [password('k')]);
        for (const execute of executes()) await execute(frame(FlushContext, { flushHandle: FIRST + 1 }));
      }
      for (const alg of [0x0012, 0x0043, 0x0006, 0xffff]) {
        const bytes = Buffer.alloc(4);
        bytes.writeUInt16BE(alg, 2);
        await both.sameCode(rawFrame(HMAC.code, [FIRST], bytes, [password('k')]));
      }
      await flush();
    }
  });
});
