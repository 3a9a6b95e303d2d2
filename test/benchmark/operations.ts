// Guest operations to be timed, the same on every TPM.
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Execute, none, run } from '../support/frames.js';
import { asParent, eccTemplate, rsaTemplate, sealTemplate } from '../support/templates.js';

/** One operation: `prepare` brings the TPM into shape and gives what is repeated and timed. */
export interface Operation {
  readonly name: string;
  /** Repetitions. */
  readonly times: number;
  /** Name of the guest command that is timed, for its hardware commands. */
  readonly command: string;
  readonly prepare: (execute: Execute) => Promise<(i: number) => Promise<unknown>>;
}

const FIXED =
  TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA;
const digest = Buffer.alloc(32, 7);
const ticket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const hash = { hashAlg: TPM_ALG.SHA256 } as const;
const ecdsa = { scheme: TPM_ALG.ECDSA, details: hash } as const;
const rsassa = { scheme: TPM_ALG.RSASSA, details: hash } as const;
const creation = { outsideInfo: none, creationPCR: [] };

const storage: TPMT_PUBLIC = {
  ...asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256)),
  objectAttributes: FIXED | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt,
};
const eccSigner: TPMT_PUBLIC = { ...eccTemplate(TPM_ECC_CURVE.NIST_P256), objectAttributes: FIXED | TPMA_OBJECT.sign };
const rsaSigner: TPMT_PUBLIC = { ...rsaTemplate(2048), objectAttributes: FIXED | TPMA_OBJECT.sign };
const rsaDecrypter: TPMT_PUBLIC = { ...rsaTemplate(2048), objectAttributes: FIXED | TPMA_OBJECT.decrypt };
const sealed: TPMT_PUBLIC = {
  ...sealTemplate(),
  objectAttributes: TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDA,
};

function createPrimary(execute: Execute, inPublic: TPMT_PUBLIC): Promise<number> {
  const request = { primaryHandle: TPM_RH.OWNER, inSensitive: { userAuth: none, data: none }, inPublic, ...creation };
  return run(execute, Commands.CreatePrimary, request).then((made) => made.objectHandle);
}

/** Creates and loads a child, and leaves nothing else in the TPM. */
async function newKey(execute: Execute, inPublic: TPMT_PUBLIC, data: Buffer = none): Promise<number> {
  const parentHandle = await createPrimary(execute, storage);
  const made = await run(execute, Commands.Create, { parentHandle, inSensitive: { userAuth: none, data }, inPublic, ...creation });
  const { objectHandle } = await run(execute, Commands.Load, { parentHandle, inPrivate: made.outPrivate, inPublic: made.outPublic });
  await run(execute, Commands.FlushContext, { flushHandle: parentHandle });
  return objectHandle;
}

type Context = Awaited<ReturnType<typeof saveKey>>;

async function saveKey(execute: Execute, inPublic: TPMT_PUBLIC) {
  const saveHandle = await newKey(execute, inPublic);
  const { context } = await run(execute, Commands.ContextSave, { saveHandle });
  await run(execute, Commands.FlushContext, { flushHandle: saveHandle });
  return context;
}

const sign = (execute: Execute, keyHandle: number, inScheme: typeof ecdsa | typeof rsassa) =>
  run(execute, Commands.Sign, { keyHandle, digest, inScheme, validation: ticket });

const nvIndex = 0x01500010;

export const operations: readonly Operation[] = [
  {
    name: 'Sign, ECDSA P-256, hot key',
    times: 300,
    command: 'Sign',
    prepare: async (execute) => {
      const key = await newKey(execute, eccSigner);
      return () => sign(execute, key, ecdsa);
    },
  },
  {
    name: 'Sign, ECDSA P-256, 8 keys in turn (ContextLoad, Sign, FlushContext)',
    times: 200,
    command: 'Sign',
    prepare: async (execute) => {
      const contexts: Context[] = [];
      for (let i = 0; i < 8; i++) contexts.push(await saveKey(execute, eccSigner));
      return async (i) => {
        const context = contexts[i % contexts.length] as Context;
        const { loadedHandle } = await run(execute, Commands.ContextLoad, { context });
        await sign(execute, loadedHandle, ecdsa);
        await run(execute, Commands.FlushContext, { flushHandle: loadedHandle });
      };
    },
  },
  {
    name: 'Sign, RSASSA 2048, hot key',
    times: 200,
    command: 'Sign',
    prepare: async (execute) => {
      const key = await newKey(execute, rsaSigner);
      return () => sign(execute, key, rsassa);
    },
  },
  {
    name: 'RSA_Decrypt, OAEP 2048, hot key',
    times: 200,
    command: 'RSA_Decrypt',
    prepare: async (execute) => {
      const keyHandle = await newKey(execute, rsaDecrypter);
      const inScheme = { scheme: TPM_ALG.OAEP, details: hash } as const;
      const { outData } = await run(execute, Commands.RSA_Encrypt, { keyHandle, message: digest, inScheme, label: none });
      return () => run(execute, Commands.RSA_Decrypt, { keyHandle, cipherText: outData, inScheme, label: none });
    },
  },
  {
    name: 'Quote, ECDSA P-256',
    times: 200,
    command: 'Quote',
    prepare: async (execute) => {
      const signHandle = await newKey(execute, eccSigner);
      const PCRselect = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([255, 255, 255]) }];
      return () => run(execute, Commands.Quote, { signHandle, qualifyingData: digest, inScheme: ecdsa, PCRselect });
    },
  },
  {
    name: 'Unseal',
    times: 300,
    command: 'Unseal',
    prepare: async (execute) => {
      const itemHandle = await newKey(execute, sealed, Buffer.from('secret'));
      return () => run(execute, Commands.Unseal, { itemHandle });
    },
  },
  {
    name: 'Create, ECC P-256',
    times: 60,
    command: 'Create',
    prepare: async (execute) => {
      const parentHandle = await createPrimary(execute, storage);
      return () =>
        run(execute, Commands.Create, { parentHandle, inSensitive: { userAuth: none, data: none }, inPublic: eccSigner, ...creation });
    },
  },
  {
    name: 'CreatePrimary, RSA 2048, the same template again',
    times: 20,
    command: 'CreatePrimary',
    prepare: async (execute) => {
      await run(execute, Commands.FlushContext, { flushHandle: await createPrimary(execute, rsaSigner) });
      return async () => run(execute, Commands.FlushContext, { flushHandle: await createPrimary(execute, rsaSigner) });
    },
  },
  {
    name: 'PCR_Extend, SHA-256',
    times: 1000,
    command: 'PCR_Extend',
    prepare: (execute) =>
      Promise.resolve(() => run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest }] })),
  },
  {
    name: 'GetRandom, 32 bytes',
    times: 1000,
    command: 'GetRandom',
    prepare: (execute) => Promise.resolve(() => run(execute, Commands.GetRandom, { bytesRequested: 32 })),
  },
  {
    name: 'NV_Write, 32 bytes',
    times: 300,
    command: 'NV_Write',
    prepare: async (execute) => {
      const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
      const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 32 } as const;
      await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
      return (i) => run(execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.alloc(32, i & 255), offset: 0 });
    },
  },
];
