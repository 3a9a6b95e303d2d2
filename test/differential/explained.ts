// The differences that are meant: each is a property of sharing, of the algorithms that are served, or of swtpm.
import { isDeepStrictEqual } from 'node:util';
import { DER_TAG, readElement, readElements } from '../../src/crypto/der.js';
import {
  ActivateCredential,
  CertifyX509,
  ContextLoad,
  GetCapability,
  HMAC,
  Import,
  IncrementalSelfTest,
  Load,
  NV_DefineSpace,
  PolicyCounterTimer,
  PolicyNV,
  PolicyTemplate,
  Rewrap,
  RSA_Decrypt,
  RSA_Encrypt,
  SequenceComplete,
  SequenceUpdate,
  StartAuthSession,
  ZGen_2Phase,
} from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_EO, TPMA_CC } from '../../src/tpm/constants/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { Difference } from './comparison.js';
import type { Answer } from './side.js';
import type { CommandStep } from './step.js';
import { Symbolic } from './symbols.js';

/** A difference that is meant. */
export interface Explanation {
  readonly name: string;
  /** `product`: it comes from sharing, or from what this TPM has and libtpms 0.9.2 has not; `libtpms`: libtpms is mistaken. */
  readonly cause: 'product' | 'libtpms';
  readonly reason: string;
  readonly covers: (difference: Difference, step: CommandStep, ours: Answer, theirs: Answer) => boolean;
}

const isProperty =
  (names: readonly string[]) =>
  ({ path }: Difference): boolean =>
    names.some((name) => path === `property.${name}` || path.startsWith(`property.${name}_`));

/** Whether the frame names a persistent object. */
function namesPersistent({ command }: CommandStep, { request }: Answer): boolean {
  return command.handleList.some((_, i) => request[10 + 4 * i] === 0x81);
}

/** Vendor commands have these indices with the vendor bit and without it. */
const FIRST_VENDOR_INDEX = 0x5000;

/** Whether ours lists what theirs does and commands of the vendor after it; with them there may be more to list. */
function hasVendorCommandsBesides({ path, ours, theirs }: Difference): boolean {
  if (path === 'moreData') return ours === 1 && theirs === 0;
  if (path !== 'capabilityData.data' || !Array.isArray(ours) || !Array.isArray(theirs)) return false;
  return isDeepStrictEqual(
    (ours as number[]).filter((attributes) => (attributes & TPMA_CC.commandIndex) < FIRST_VENDOR_INDEX),
    theirs,
  );
}

/** Whether it is the symbol of a trial session; see plans/session.ts. */
const isTrial = (session: unknown): boolean => session instanceof Symbolic && session.text.startsWith('trial');

const signedOperations: ReadonlySet<number> = new Set([TPM_EO.SIGNED_GT, TPM_EO.SIGNED_LT, TPM_EO.SIGNED_GE, TPM_EO.SIGNED_LE]);

const isEmpty = (value: unknown): boolean => Buffer.isBuffer(value) && value.length === 0;

const isTransient = (handle: unknown): boolean => typeof handle === 'number' && handle >>> 24 === 0x80;

/** Whether the first handle, what stands in its place, or the handle of a context is one that libtpms has no room for. */
function namesDistantHandle({ command }: CommandStep, { request }: Answer): boolean {
  // A context begins with its sequence number, of 8 bytes.
  const at = command === ContextLoad ? 18 : 10;
  if (request.length < at + 4) return false;
  const [type, index] = [request[at] ?? 0, request.readUIntBE(at + 1, 3)];
  return (type === 0x80 && index >= 3) || ((type === 2 || type === 3) && index >= 64);
}

const ofParameter1 = (code: number): number => code | 0x140;

/** Whether an extension of the partial certificate is not made of whole elements, or its value is not one. */
function hasCutExtension(partialCertificate: unknown): boolean {
  const parts = Buffer.isBuffer(partialCertificate) ? readElement(partialCertificate) : undefined;
  const extensions = readElements(parts?.content ?? Buffer.alloc(0))?.find(({ tag }) => tag === DER_TAG.CONTEXT + 3);
  const list = extensions && readElement(extensions.content);
  return (readElements(list?.content ?? Buffer.alloc(0)) ?? []).some(({ content }) => {
    const elements = readElements(content);
    const value = elements?.find(({ tag }) => tag === DER_TAG.OCTET_STRING)?.content;
    return elements === undefined || (value !== undefined && readElements(value)?.length !== 1);
  });
}

/** What a context is refused with that is not of this TPM or not for now; libtpms names no parameter where its first field is cut. */
const contextFaults: ReadonlySet<number> = new Set([
  ofParameter1(TPM_RC.SIZE),
  ofParameter1(TPM_RC.INTEGRITY),
  TPM_RC.SIZE,
  TPM_RC.INSUFFICIENT,
]);

/** What the use of an entity is refused with that has no authValue to use. */
const withoutAuthValue: ReadonlySet<number> = new Set([TPM_RC.AUTH_UNAVAILABLE, TPM_RC.AUTH_TYPE, TPM_RC.LOCKOUT]);

export const explanations: readonly Explanation[] = [
  {
    name: 'identity',
    cause: 'product',
    reason: 'vendor strings and firmware version are those of this product',
    covers: isProperty(['MANUFACTURER', 'VENDOR_STRING', 'FIRMWARE_VERSION', 'VENDOR_TPM_TYPE']),
  },
  {
    name: 'revision',
    cause: 'product',
    reason: 'libtpms 0.9.2 says revision 1.64, this TPM is built to 1.59',
    covers: isProperty(['REVISION', 'DAY_OF_YEAR', 'YEAR', 'PS_REVISION', 'PS_DAY_OF_YEAR', 'PS_YEAR', 'PS_FAMILY_INDICATOR', 'PS_LEVEL']),
  },
  {
    name: 'limits',
    cause: 'product',
    reason: 'how much a guest may have is configured, and generous; formats of contexts are our own',
    covers: isProperty([
      'HR_PERSISTENT_MIN',
      'HR_PERSISTENT_AVAIL',
      'NV_COUNTERS_AVAIL',
      'MAX_OBJECT_CONTEXT',
      'MAX_SESSION_CONTEXT',
      'SPLIT_MAX',
      'MEMORY',
    ]),
  },
  {
    name: 'vendor commands',
    cause: 'product',
    reason: 'commands for aware guests come after those of the library; libtpms has no vendor commands',
    covers: (difference, { command, values }) =>
      isProperty(['TOTAL_COMMANDS', 'VENDOR_COMMANDS'])(difference) ||
      (command === GetCapability && values['capability'] === TPM_CAP.COMMANDS && hasVendorCommandsBesides(difference)),
  },
  {
    name: 'persistent objects need no slot',
    cause: 'product',
    reason: 'libtpms loads a persistent object into one of its three slots for each command; here it takes none',
    covers: ({ path }, step, ours, theirs) => path === 'code' && theirs.code === TPM_RC.OBJECT_MEMORY && namesPersistent(step, theirs),
  },
  {
    name: 'transient handles',
    cause: 'product',
    reason: 'a persistent object in a slot of libtpms moves the next object to another one',
    covers: ({ path, ours, theirs }, { command, values }) =>
      (path === 'handle' && isTransient(ours) && isTransient(theirs)) ||
      (path.startsWith('capabilityData.data[') &&
        command === GetCapability &&
        values['capability'] === TPM_CAP.HANDLES &&
        isTransient(ours)),
  },
  {
    name: 'handle ranges',
    cause: 'product',
    reason: 'a handle beyond the limits of libtpms is TPM_RC_VALUE there; ranges here are those of the largest configuration',
    covers: ({ path }, step, ours, theirs) => path === 'code' && (theirs.code & 0xbf) === TPM_RC.VALUE && namesDistantHandle(step, theirs),
  },
  {
    name: 'format of private areas',
    cause: 'product',
    reason: 'what is wrong with a private area that this TPM has not made depends on its format, which is our own',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' &&
      command === Load &&
      ours.code === ofParameter1(TPM_RC.INTEGRITY) &&
      (theirs.code === ofParameter1(TPM_RC.SIZE) || theirs.code === ofParameter1(TPM_RC.INSUFFICIENT)),
  },
  {
    name: 'format of contexts',
    cause: 'product',
    reason: 'what is wrong with a context that this TPM has not made depends on its format, which is our own',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' && command === ContextLoad && contextFaults.has(ours.code) && contextFaults.has(theirs.code),
  },
  {
    name: 'orderly NV space',
    cause: 'product',
    reason: 'libtpms has 512 bytes for orderly indices; here they are as large as any',
    covers: ({ path }, { command }, _ours, theirs) => path === 'code' && command === NV_DefineSpace && theirs.code === TPM_RC.NV_SPACE,
  },
  {
    name: 'numbers of the handles of CertifyX509',
    cause: 'libtpms',
    reason: 'libtpms counts signHandle before objectHandle; Part 3, 18.8 has them the other way round',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' && command === CertifyX509 && (ours.code ^ theirs.code) === 0x300 && (ours.code & 0xff) === (theirs.code & 0xff),
  },
  {
    name: 'template and cpHash in a trial session',
    cause: 'libtpms',
    reason:
      'nothing is checked in a trial session, so PolicySigned may replace the hash of PolicyTemplate; libtpms goes on to take it for one',
    covers: ({ path }, { command, values }, ours, theirs) =>
      path === 'code' &&
      command === PolicyTemplate &&
      isTrial(values['policySession']) &&
      ours.code === TPM_RC.CPHASH &&
      (theirs.code === ofParameter1(TPM_RC.VALUE) || theirs.code === TPM_RC.SUCCESS),
  },
  {
    name: 'unknown tags',
    cause: 'libtpms',
    reason: 'libtpms answers a tag that is none of TPM_ST with TPM_RC_VALUE; here it is TPM_RC_BAD_TAG, as for all others (Part 3, 5.2)',
    covers: ({ path }, { frameMutation }, ours, theirs) =>
      path === 'code' && frameMutation?.kind === 'tag' && ours.code === TPM_RC.BAD_TAG && theirs.code === TPM_RC.VALUE,
  },
  {
    name: 'RSA by OpenSSL',
    cause: 'libtpms',
    reason:
      'libtpms answers TPM_RC_FAILURE where OpenSSL refuses a message, a secret or a padding; here it is the TPM_RC_VALUE of Part 3, 14.2 and 14.3',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' &&
      [RSA_Encrypt, RSA_Decrypt, ActivateCredential, Import, Rewrap, StartAuthSession].some((one) => one === command) &&
      (ours.code === TPM_RC.VALUE || (command === RSA_Decrypt && ours.code === ofParameter1(TPM_RC.VALUE))) &&
      theirs.code === TPM_RC.FAILURE,
  },
  {
    name: 'two-phase exchanges',
    cause: 'libtpms',
    reason: 'libtpms fails in ECMQV, where it divides by a number that it never sets, and at times in SM2 (seen on BN_P638)',
    covers: ({ path }, { command, values }, _ours, theirs) =>
      path === 'code' &&
      command === ZGen_2Phase &&
      (values['inScheme'] === TPM_ALG.ECMQV || values['inScheme'] === TPM_ALG.SM2) &&
      theirs.code === TPM_RC.FAILURE,
  },
  {
    name: 'bound sessions and public keys',
    cause: 'libtpms',
    reason: 'libtpms goes into failure mode when a bound session is to authorize the use of a key that has no private part',
    covers: ({ path }, { uses }, ours, theirs) =>
      path === 'code' &&
      theirs.code === TPM_RC.FAILURE &&
      withoutAuthValue.has(ours.code) &&
      uses.some(({ session }) => session !== undefined),
  },
  {
    name: 'signs of nothing',
    cause: 'libtpms',
    reason: 'libtpms compares the signs of two empty operands, which it takes from whatever is in memory there',
    covers: ({ path }, { command, values }, ours, theirs) =>
      path === 'code' &&
      (command === PolicyNV || command === PolicyCounterTimer) &&
      isEmpty(values['operandB']) &&
      signedOperations.has(Number(values['operation'])) &&
      [ours.code, theirs.code].every((code) => code === TPM_RC.SUCCESS || code === TPM_RC.POLICY),
  },
  {
    name: 'self-tests on demand',
    cause: 'product',
    reason: 'libtpms lists algorithms until it has tested them; here all tests are done before the first command',
    covers: ({ path }, { command }) => path === 'toDoList' && command === IncrementalSelfTest,
  },
  {
    name: 'number of the handle of SequenceUpdate',
    cause: 'libtpms',
    reason: 'libtpms calls the sequence handle parameter 1; it is handle 1 (Part 3, 17.5)',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' && command === SequenceUpdate && ours.code === 0x189 && theirs.code === ofParameter1(TPM_RC.MODE),
  },
  {
    name: 'extensions that are cut off',
    cause: 'libtpms',
    reason:
      'libtpms finds the bits of an extension of a partial certificate though the elements after or around them are not whole; here that is ' +
      'TPM_RC_VALUE, as for the rest of the certificate (Part 3, 18.8)',
    covers: ({ path }, { command, values }, ours, theirs) =>
      path === 'code' &&
      command === CertifyX509 &&
      ours.code === (TPM_RC.VALUE | 0x340) &&
      theirs.code === TPM_RC.SUCCESS &&
      hasCutExtension(values['partialCertificate']),
  },
  {
    name: 'CMAC by TDES',
    cause: 'libtpms',
    reason:
      'libtpms makes the subkeys of 64-bit blocks with the constant of 128-bit ones, 0x87; here it is the 0x1b of SP 800-38B, 5.3 ' +
      '(ISO/IEC 9797-1, MAC algorithm 5)',
    // No other MAC and no hash has 8 bytes.
    covers: ({ path, ours, theirs }, { command }) =>
      ((path === 'outHMAC' && command === HMAC) || (path === 'result' && command === SequenceComplete)) &&
      [ours, theirs].every((mac) => Buffer.isBuffer(mac) && mac.length === 8),
  },
  {
    name: 'safe after a disorderly start',
    cause: 'libtpms',
    reason: 'Clock is rounded up to the next update (Part 1, 36.3) and so safe at once; libtpms leaves it and waits up to four seconds',
    covers: ({ path }) => path.endsWith('lockInfo.safe'),
  },
];

/** What is not compared at all, or what sequences do not run into: it would leave the two TPMs in different states, or ends libtpms. */
export const avoided: readonly { readonly name: string; readonly reason: string }[] = [
  {
    name: 'random values and clocks',
    reason: 'only their sizes are compared. Restart counts, and the reset count in attestations, are obfuscated with a number of each TPM',
  },
  { name: 'private areas and saved contexts', reason: 'format and size of outPrivate and contextBlob are our own' },
  {
    name: 'first use under dictionary-attack protection',
    reason:
      'after a start libtpms answers the first use of a protected authValue with TPM_RC_RETRY, to write down that there was one; here it is ' +
      'written down with the command. swtpm is sent the command again',
  },
  {
    name: 'forgotten failures',
    reason:
      'after a disorderly start libtpms counts a failure if dictionary-attack protection was in use, unless a refused TPM2_Startup(STATE) came ' +
      'first, or the start before it found the protection off or in lockout',
  },
  { name: 'certificates signed by nobody', reason: 'libtpms crashes when CertifyX509 is to sign with TPM_RH_NULL; here it is TPM_RC_KEY' },
  {
    name: 'crashes',
    reason: 'libtpms crashes at times, seen at the end of a hash sequence that came from a saved context: a run goes on with new TPMs',
  },
  { name: 'forgotten allocation', reason: 'libtpms takes PCR_Allocate back when Clear comes before the next power cycle' },
  {
    name: 'locks of orderly indices',
    reason:
      'libtpms has them in memory only, also those that TPMA_NV_WRITEDEFINE lets last until the index is deleted, and forgets them when power is lost without a shutdown',
  },
];

/** Why the two TPMs may differ in this; undefined if there is no reason. */
export function explain(difference: Difference, step: CommandStep, ours: Answer, theirs: Answer): Explanation | undefined {
  return explanations.find(({ covers }) => covers(difference, step, ours, theirs));
}
