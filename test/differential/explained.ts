// The differences that are meant: each is a property of sharing, of the algorithms that are served, or of swtpm.
import { CertifyX509, Load, NV_DefineSpace } from '../../src/tpm/commands/index.js';
import { TPM_CAP } from '../../src/tpm/constants/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { Difference } from './comparison.js';
import type { Answer } from './side.js';
import type { CommandStep } from './step.js';

/** A difference that is meant. */
export interface Explanation {
  readonly name: string;
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

const isTransient = (handle: unknown): boolean => typeof handle === 'number' && handle >>> 24 === 0x80;

/** Whether the first handle, or what stands in its place, is one that libtpms has no room for. */
function namesDistantHandle({ request }: Answer): boolean {
  if (request.length < 14) return false;
  const [type, index] = [request[10] ?? 0, request.readUIntBE(11, 3)];
  return (type === 0x80 && index >= 3) || ((type === 2 || type === 3) && index >= 64);
}

const ofParameter1 = (code: number): number => code | 0x140;
const isValueOfParameter = (code: number): boolean => (code & 0xff) === (TPM_RC.VALUE | 0x40);

/** Whether a field of that name and value is anywhere in it. */
function hasField(value: unknown, name: string, wanted: unknown): boolean {
  if (value === null || typeof value !== 'object' || Buffer.isBuffer(value)) return false;
  return Object.entries(value).some(([key, element]) => (key === name && element === wanted) || hasField(element, name, wanted));
}

export const explanations: readonly Explanation[] = [
  {
    name: 'identity',
    reason: 'vendor strings and firmware version are those of this product',
    covers: isProperty(['MANUFACTURER', 'VENDOR_STRING', 'FIRMWARE_VERSION', 'VENDOR_TPM_TYPE']),
  },
  {
    name: 'revision',
    reason: 'libtpms 0.9.2 says revision 1.64, this TPM is built to 1.59',
    covers: isProperty(['REVISION', 'DAY_OF_YEAR', 'YEAR', 'PS_REVISION', 'PS_DAY_OF_YEAR', 'PS_YEAR', 'PS_FAMILY_INDICATOR', 'PS_LEVEL']),
  },
  {
    name: 'limits',
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
    name: 'persistent objects need no slot',
    reason: 'libtpms loads a persistent object into one of its three slots for each command; here it takes none',
    covers: ({ path }, step, ours, theirs) => path === 'code' && theirs.code === TPM_RC.OBJECT_MEMORY && namesPersistent(step, theirs),
  },
  {
    name: 'transient handles',
    reason: 'a persistent object in a slot of libtpms moves the next object to another one',
    covers: ({ path, ours, theirs }, { command, values }) =>
      (path === 'handle' && isTransient(ours) && isTransient(theirs)) ||
      (path.startsWith('capabilityData.data[') &&
        command.name === 'GetCapability' &&
        values['capability'] === TPM_CAP.HANDLES &&
        isTransient(ours)),
  },
  {
    name: 'handle ranges',
    reason: 'a handle beyond the limits of libtpms is TPM_RC_VALUE there; ranges here are those of the largest configuration',
    covers: ({ path }, step, ours, theirs) => path === 'code' && (theirs.code & 0xbf) === TPM_RC.VALUE && namesDistantHandle(theirs),
  },
  {
    name: 'format of private areas',
    reason: 'what is wrong with a private area that this TPM has not made depends on its format, which is our own',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' && command === Load && ours.code === ofParameter1(TPM_RC.INTEGRITY) && theirs.code === ofParameter1(TPM_RC.SIZE),
  },
  {
    name: 'format of contexts',
    reason: 'what is wrong with a context that this TPM has not made depends on its format, which is our own',
    covers: ({ path }, { command }, ours) => path === 'code' && command.name === 'ContextLoad' && ours.code !== TPM_RC.SUCCESS,
  },
  {
    name: 'RSA 4096',
    reason: 'keys of 4096 bits are served; libtpms 0.9.2 has none',
    covers: ({ path }, { values }, _ours, theirs) =>
      path === 'code' && isValueOfParameter(theirs.code) && hasField(values, 'keyBits', 4096),
  },
  {
    name: 'orderly NV space',
    reason: 'libtpms has 512 bytes for orderly indices; here they are as large as any',
    covers: ({ path }, { command }, _ours, theirs) => path === 'code' && command === NV_DefineSpace && theirs.code === TPM_RC.NV_SPACE,
  },
  {
    name: 'numbers of the handles of CertifyX509',
    reason: 'libtpms counts signHandle before objectHandle; Part 3, 18.8 has them the other way round',
    covers: ({ path }, { command }, ours, theirs) =>
      path === 'code' && command === CertifyX509 && (ours.code ^ theirs.code) === 0x300 && (ours.code & 0xff) === (theirs.code & 0xff),
  },
  {
    name: 'failure mode',
    reason: 'libtpms falls into failure mode where an assertion of its own does not hold',
    covers: ({ path }, _step, _ours, theirs) => path === 'code' && theirs.code === TPM_RC.FAILURE && path.length > 100,
  },
  {
    name: 'self-tests on demand',
    reason: 'libtpms lists algorithms until it has tested them; here all tests are done before the first command',
    covers: ({ path }, { command }) => path === 'toDoList' && command.name === 'IncrementalSelfTest',
  },
  {
    name: 'number of the handle of SequenceUpdate',
    reason: 'libtpms calls the sequence handle parameter 1; it is handle 1 (Part 3, 17.5)',
    covers: ({ path }, { command }, ours) => path === 'code' && command.name === 'SequenceUpdate' && ours.code === 0x189,
  },
  {
    name: 'safe after a disorderly start',
    reason: 'Clock is rounded up to the next update (Part 1, 36.3) and so safe at once; libtpms leaves it and waits up to four seconds',
    covers: ({ path }) => path.endsWith('lockInfo.safe'),
  },
];

/** Why the two TPMs may differ in this; undefined if there is no reason. */
export function explain(difference: Difference, step: CommandStep, ours: Answer, theirs: Answer): Explanation | undefined {
  return explanations.find(({ covers }) => covers(difference, step, ours, theirs));
}
