// TPM 2.0 Library Part 2, 6.13: TPM_CAP_TPM_PROPERTIES. Every value is true of this vTPM.
import { isOwnCommand, type Command } from '../../tpm/command.js';
import {
  CONTEXT_OVERHEAD,
  IMPLEMENTATION_PCR,
  MAX_CAP_BUFFER,
  MAX_DIGEST_BUFFER,
  MAX_DIGEST_SIZE,
  MAX_NV_BUFFER_SIZE,
  MAX_NV_INDEX_SIZE,
  PCR_SELECT_MIN,
  PT_GROUP,
  TPM_ALG,
  TPM_PT,
  TPM_SPEC_DAY_OF_YEAR,
  TPM_SPEC_FAMILY,
  TPM_SPEC_LEVEL,
  TPM_SPEC_VERSION,
  TPM_SPEC_YEAR,
  TPMA_MEMORY,
  TPMA_PERMANENT,
  TPMA_STARTUP_CLEAR,
} from '../../tpm/constants/index.js';
import type { TPMS_TAGGED_PROPERTY } from '../../tpm/structures/index.js';
import { FIRMWARE_VERSION, MANUFACTURER, VENDOR_STRING, VENDOR_TPM_TYPE } from '../vendor.js';
import { CLOCK_UPDATE_MS } from '../state/clock.js';
import { COMMIT_WINDOW } from '../state/commits.js';
import { ORDERLY_COUNT } from '../state/nv.js';
import { CONTEXT_GAP_MAX } from '../state/sessions.js';
import type { Tpm } from '../tpm.js';
import { servedCurves } from './key-parameters.js';

type Served = ReadonlyMap<number, { readonly command: Command }>;

/** Four characters of a text as a number, filled up with zero bytes. */
function characters(text: string, start = 0): number {
  const bytes = Buffer.alloc(4);
  bytes.write(text.slice(start, start + 4), 'latin1');
  return bytes.readUInt32BE(0);
}

const high = (value: bigint): number => Number(value >> 32n);
const low = (value: bigint): number => Number(value & 0xffffffffn);

/** Bits of the key that encrypts saved contexts. */
const CONTEXT_KEY_BITS = 256;

/** The properties that never change, in order. */
function fixedProperties(tpm: Tpm, served: Served): TPMS_TAGGED_PROPERTY[] {
  const { limits } = tpm;
  const vendorCommands = [...served.values()].filter(({ command }) => isOwnCommand(command)).length;
  return tagged([
    [TPM_PT.FAMILY_INDICATOR, TPM_SPEC_FAMILY],
    [TPM_PT.LEVEL, TPM_SPEC_LEVEL],
    [TPM_PT.REVISION, TPM_SPEC_VERSION],
    [TPM_PT.DAY_OF_YEAR, TPM_SPEC_DAY_OF_YEAR],
    [TPM_PT.YEAR, TPM_SPEC_YEAR],
    [TPM_PT.MANUFACTURER, characters(MANUFACTURER)],
    [TPM_PT.VENDOR_STRING_1, characters(VENDOR_STRING)],
    [TPM_PT.VENDOR_STRING_2, characters(VENDOR_STRING, 4)],
    [TPM_PT.VENDOR_STRING_3, characters(VENDOR_STRING, 8)],
    [TPM_PT.VENDOR_STRING_4, characters(VENDOR_STRING, 12)],
    [TPM_PT.VENDOR_TPM_TYPE, VENDOR_TPM_TYPE],
    [TPM_PT.FIRMWARE_VERSION_1, high(FIRMWARE_VERSION)],
    [TPM_PT.FIRMWARE_VERSION_2, low(FIRMWARE_VERSION)],
    [TPM_PT.INPUT_BUFFER, MAX_DIGEST_BUFFER],
    [TPM_PT.HR_TRANSIENT_MIN, limits.loadedObjects],
    [TPM_PT.HR_PERSISTENT_MIN, limits.persistentObjects],
    [TPM_PT.HR_LOADED_MIN, limits.loadedSessions],
    [TPM_PT.ACTIVE_SESSIONS_MAX, limits.activeSessions],
    [TPM_PT.PCR_COUNT, IMPLEMENTATION_PCR],
    [TPM_PT.PCR_SELECT_MIN, PCR_SELECT_MIN],
    [TPM_PT.CONTEXT_GAP_MAX, CONTEXT_GAP_MAX],
    [TPM_PT.NV_COUNTERS_MAX, 0],
    [TPM_PT.NV_INDEX_MAX, MAX_NV_INDEX_SIZE],
    [TPM_PT.MEMORY, TPMA_MEMORY.sharedNV | TPMA_MEMORY.objectCopiedToRam],
    [TPM_PT.CLOCK_UPDATE, Number(CLOCK_UPDATE_MS)],
    [TPM_PT.CONTEXT_HASH, TPM_ALG.SHA512],
    [TPM_PT.CONTEXT_SYM, TPM_ALG.AES],
    [TPM_PT.CONTEXT_SYM_SIZE, CONTEXT_KEY_BITS],
    [TPM_PT.ORDERLY_COUNT, Number(ORDERLY_COUNT)],
    [TPM_PT.MAX_COMMAND_SIZE, tpm.bufferSize],
    [TPM_PT.MAX_RESPONSE_SIZE, tpm.bufferSize],
    [TPM_PT.MAX_DIGEST, MAX_DIGEST_SIZE],
    [TPM_PT.MAX_OBJECT_CONTEXT, tpm.bufferSize - CONTEXT_OVERHEAD],
    [TPM_PT.MAX_SESSION_CONTEXT, tpm.bufferSize - CONTEXT_OVERHEAD],
    [TPM_PT.PS_FAMILY_INDICATOR, TPM_SPEC_FAMILY],
    [TPM_PT.PS_LEVEL, TPM_SPEC_LEVEL],
    [TPM_PT.PS_REVISION, TPM_SPEC_VERSION],
    [TPM_PT.PS_DAY_OF_YEAR, TPM_SPEC_DAY_OF_YEAR],
    [TPM_PT.PS_YEAR, TPM_SPEC_YEAR],
    [TPM_PT.SPLIT_MAX, COMMIT_WINDOW],
    [TPM_PT.TOTAL_COMMANDS, served.size],
    [TPM_PT.LIBRARY_COMMANDS, served.size - vendorCommands],
    [TPM_PT.VENDOR_COMMANDS, vendorCommands],
    [TPM_PT.NV_BUFFER_MAX, MAX_NV_BUFFER_SIZE],
    [TPM_PT.MODES, 0],
    [TPM_PT.MAX_CAP_BUFFER, MAX_CAP_BUFFER],
  ]);
}

/** The properties that change, in order. */
function variableProperties(tpm: Tpm): TPMS_TAGGED_PROPERTY[] {
  const { limits, nv, sessions, objects, persistent, dictionaryAttack, commandAudit } = tpm;
  const [loaded, active] = [sessions.loaded.length, sessions.loaded.length + sessions.saved.length];
  const indices = nv.handles.length;
  dictionaryAttack.heal();
  return tagged([
    [TPM_PT.PERMANENT, permanentAttributes(tpm)],
    [TPM_PT.STARTUP_CLEAR, startupClearAttributes(tpm)],
    [TPM_PT.HR_NV_INDEX, indices],
    [TPM_PT.HR_LOADED, loaded],
    [TPM_PT.HR_LOADED_AVAIL, Math.max(0, limits.loadedSessions - loaded)],
    [TPM_PT.HR_ACTIVE, active],
    [TPM_PT.HR_ACTIVE_AVAIL, Math.max(0, limits.activeSessions - active)],
    [TPM_PT.HR_TRANSIENT_AVAIL, objects.available],
    [TPM_PT.HR_PERSISTENT, persistent.handles.length],
    [TPM_PT.HR_PERSISTENT_AVAIL, persistent.available],
    [TPM_PT.NV_COUNTERS, nv.counters],
    [TPM_PT.NV_COUNTERS_AVAIL, Math.max(0, limits.nvIndices - indices)],
    [TPM_PT.ALGORITHM_SET, tpm.algorithmSet.number],
    [TPM_PT.LOADED_CURVES, servedCurves(tpm).length],
    [TPM_PT.LOCKOUT_COUNTER, dictionaryAttack.failedTries],
    [TPM_PT.MAX_AUTH_FAIL, dictionaryAttack.maxTries],
    [TPM_PT.LOCKOUT_INTERVAL, dictionaryAttack.recoveryTime],
    [TPM_PT.LOCKOUT_RECOVERY, dictionaryAttack.lockoutRecovery],
    [TPM_PT.NV_WRITE_RECOVERY, 0],
    [TPM_PT.AUDIT_COUNTER_0, high(commandAudit.counter)],
    [TPM_PT.AUDIT_COUNTER_1, low(commandAudit.counter)],
  ]);
}

function tagged(values: readonly (readonly [property: number, value: number])[]): TPMS_TAGGED_PROPERTY[] {
  return values.map(([property, value]) => ({ property, value }));
}

const flag = (on: boolean, mask: number): number => (on ? mask : 0);

function permanentAttributes({ hierarchies, dictionaryAttack }: Tpm): number {
  const { owner, endorsement, lockout, disableClear } = hierarchies;
  return (
    flag(owner.authValue.length > 0, TPMA_PERMANENT.ownerAuthSet) |
    flag(endorsement.authValue.length > 0, TPMA_PERMANENT.endorsementAuthSet) |
    flag(lockout.authValue.length > 0, TPMA_PERMANENT.lockoutAuthSet) |
    flag(disableClear, TPMA_PERMANENT.disableClear) |
    flag(dictionaryAttack.inLockout, TPMA_PERMANENT.inLockout) |
    TPMA_PERMANENT.tpmGeneratedEPS
  );
}

function startupClearAttributes({ hierarchies, power }: Tpm): number {
  const { platform, owner, endorsement, platformNvEnabled } = hierarchies;
  return (
    (flag(platform.enabled, TPMA_STARTUP_CLEAR.phEnable) |
      flag(owner.enabled, TPMA_STARTUP_CLEAR.shEnable) |
      flag(endorsement.enabled, TPMA_STARTUP_CLEAR.ehEnable) |
      flag(platformNvEnabled, TPMA_STARTUP_CLEAR.phEnableNV) |
      flag(power.startedOrderly, TPMA_STARTUP_CLEAR.orderly)) >>>
    0
  );
}

/** The properties of the group of `first`, from `first` on; the first group if `first` lies before it. */
export function propertiesFrom(tpm: Tpm, first: number, served: Served): TPMS_TAGGED_PROPERTY[] {
  const start = Math.max(first, TPM_PT.FIXED);
  const group = Math.floor(start / PT_GROUP) * PT_GROUP;
  const all = group === TPM_PT.FIXED ? fixedProperties(tpm, served) : group === TPM_PT.VAR ? variableProperties(tpm) : [];
  return all.filter(({ property }) => property >= start);
}
