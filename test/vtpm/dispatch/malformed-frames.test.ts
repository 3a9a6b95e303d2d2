// Frames that end too early, go on too long or have a byte changed: policies, sessions, contexts and NV refuse them as swtpm does.
import * as nv from '../../../src/tpm/commands/objects/nv.js';
import * as policies from '../../../src/tpm/commands/authorization/enhanced-authorization.js';
import { ContextLoad, ContextSave, EvictControl, FlushContext, StartAuthSession } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_RH, TPM_SE, TPM_ST, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { servedCommands } from '../../../src/vtpm/handlers.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, frame, none } from '../../support/frames.js';

const session = 0x03000000;
const index = 0x01500000;
const digest = Buffer.alloc(32, 1);
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const start = {
  tpmKey: TPM_RH.NULL,
  bind: TPM_RH.NULL,
  nonceCaller: Buffer.alloc(16),
  encryptedSalt: none,
  symmetric: noCipher,
  authHash: TPM_ALG.SHA256,
};
const publicInfo = {
  nvIndex: index,
  nameAlg: TPM_ALG.SHA256,
  attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
  authPolicy: digest,
  dataSize: 8,
};

/** Something for every handle and parameter of the chapters, by name. */
const values = {
  policySession: session,
  authObject: 0x80000000,
  authHandle: TPM_RH.OWNER,
  nvIndex: index,
  platform: TPM_RH.PLATFORM,
  nonceTPM: none,
  cpHashA: digest,
  policyRef: none,
  expiration: 0,
  auth: { sigAlg: TPM_ALG.HMAC, signature: { hashAlg: TPM_ALG.SHA256, digest } },
  timeout: Buffer.alloc(8),
  authName: digest,
  ticket: { tag: TPM_ST.AUTH_SECRET, hierarchy: TPM_RH.OWNER, digest },
  pHashList: [digest, digest],
  pcrDigest: none,
  pcrs: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.alloc(3) }],
  locality: 1,
  operandB: Buffer.alloc(2),
  offset: 0,
  operation: 0,
  code: TPM_CC.NV_Read,
  nameHash: digest,
  objectName: digest,
  newParentName: digest,
  includeObject: 0,
  approvedPolicy: digest,
  keySign: digest,
  checkTicket: { tag: TPM_ST.VERIFIED, hierarchy: TPM_RH.OWNER, digest },
  writtenSet: 1,
  templateHash: digest,
  publicInfo,
  data: Buffer.alloc(8),
  bits: 1n,
  size: 8,
  newAuth: none,
  signHandle: TPM_RH.NULL,
  qualifyingData: none,
  inScheme: { scheme: TPM_ALG.NULL, details: null },
};

const chapterFrames = [...Object.values(policies), ...Object.values(nv)]
  .filter((command) => servedCommands.has(command.code))
  .map((command) => {
    // PolicySigned and NV_DefineSpace have an `auth` each, of their own type.
    const own = command.code === TPM_CC.NV_DefineSpace ? { ...values, auth: none } : values;
    return [command.name, frame(command as never, own as never)] as const;
  });
const frames: readonly (readonly [string, Buffer])[] = [
  ...chapterFrames,
  [
    'StartAuthSession',
    frame(StartAuthSession, { ...start, sessionType: TPM_SE.HMAC, symmetric: { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } }),
  ],
  ['ContextSave', frame(ContextSave, { saveHandle: 0x80000000 })],
  [
    'ContextLoad',
    frame(ContextLoad, { context: { sequence: 1n, savedHandle: 0x80000000, hierarchy: TPM_RH.OWNER, contextBlob: Buffer.alloc(4) } }),
  ],
  ['FlushContext', frame(FlushContext, { flushHandle: 0x80000000 })],
  ['EvictControl', frame(EvictControl, { auth: TPM_RH.OWNER, objectHandle: 0x80000000, persistentHandle: 0x81000000 })],
];
/** First bytes of a frame, which are the dispatcher's. */
const HEADER = 10;

function resized(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32BE(copy.length, 2);
  return copy;
}

/** Whether there is the last byte of a handle: how many there may be of a kind is not the same in swtpm. */
function isHandleEnd(bytes: Buffer, at: number): boolean {
  const code = bytes.readUInt32BE(6);
  const count = code === TPM_CC.FlushContext ? 1 : (servedCommands.get(code)?.command.handleList.length ?? 0);
  return at < HEADER + 4 * count && (at - HEADER) % 4 === 3;
}

describe('malformed frames', () => {
  let pair: Differential;
  before(async () => {
    pair = await startDifferential();
  });
  after(() => pair.stop());

  /** One policy session and one NV index, as at the beginning. */
  async function renew(): Promise<void> {
    for (const flushHandle of [0x02000000, 0x02000001, 0x02000002]) await pair.both(frame(FlushContext, { flushHandle }));
    await pair.both(frame(nv.NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex: index }));
    await pair.code(StartAuthSession, { ...start, sessionType: TPM_SE.POLICY });
    await pair.code(nv.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
  }

  for (const [name, bytes] of frames) {
    it(`of ${name} that end anywhere, or too late`, async () => {
      await renew();
      for (let size = HEADER; size < bytes.length; size++) await pair.sameCode(resized(bytes.subarray(0, size)));
      await pair.sameCode(resized(Buffer.concat([bytes, Buffer.of(0)])));
    });

    it(`of ${name} with one byte changed`, async () => {
      await renew();
      for (let at = HEADER; at < bytes.length; at++) {
        for (const change of isHandleEnd(bytes, at) ? [0x01] : [0x01, 0x80, 0xff]) {
          const changed = Buffer.from(bytes);
          changed[at] = (changed[at] ?? 0) ^ change;
          const answers = await pair.both(changed);
          const isFree = name === 'ContextLoad' && codeOf(answers.theirs) !== TPM_RC.SUCCESS;
          if (codeOf(answers.ours) !== codeOf(answers.theirs) && !isFree) await pair.sameCode(changed);
          if (codeOf(answers.theirs) === TPM_RC.SUCCESS) await renew();
        }
      }
    });
  }
});
