// TPM 2.0 Library Part 3, 30: capability commands.
import { type Command, commandAttributes } from '../../../tpm/command.js';
import type { GetCapability, TestParms } from '../../../tpm/commands/index.js';
import {
  handleType,
  HANDLE_RANGE,
  inRange,
  MAX_ACT_DATA,
  MAX_CAP_ALGS,
  MAX_CAP_CC,
  MAX_CAP_HANDLES,
  MAX_ECC_CURVES,
  MAX_PCR_PROPERTIES,
  MAX_TAGGED_POLICIES,
  MAX_TPM_PROPERTIES,
  TPM_ALG,
  TPM_CAP,
  TPM_HT,
  TPMA_CC,
} from '../../../tpm/constants/index.js';
import type { Response } from '../../../tpm/command.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { NO, type TPMS_CAPABILITY_DATA, YES } from '../../../tpm/structures/index.js';
import { servedAlgorithms } from '../../capabilities/algorithms.js';
import { handlesFrom, policiesFrom } from '../../capabilities/handles.js';
import { areKeyParametersServed, servedCurves } from '../../capabilities/key-parameters.js';
import { page, type Page } from '../../capabilities/page.js';
import { allocationOf, pcrProperties } from '../../capabilities/pcr-properties.js';
import { propertiesFrom } from '../../capabilities/properties.js';
import type { Call } from '../../dispatch/call.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import type { Tpm } from '../../tpm.js';

type Capability = TPMS_CAPABILITY_DATA['capability'];
/** How one capability is answered: the list from `property` on, at most `count` of it. */
type Reader = (tpm: Tpm, property: number, count: number, call: Call<never, 'property'>) => Page<unknown>;

const CODE_MASK = 0xffff;

function algorithms(_tpm: Tpm, property: number, count: number): Page<unknown> {
  const first = property & CODE_MASK;
  return page(
    servedAlgorithms.filter(({ alg }) => alg >= first),
    count,
    MAX_CAP_ALGS,
  );
}

function handles(tpm: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  const found = handlesFrom(tpm, property);
  if (found === undefined) throw call.error(TPM_RC.HANDLE, 'property');
  return page(found, count, MAX_CAP_HANDLES);
}

/** Commands from a code on; vendor commands come after those of the library. */
function commands(_tpm: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  return page(commandsFrom(property, call).map(commandAttributes), count, MAX_CAP_CC);
}

function commandsFrom(property: number, call: Call<never, 'property'>): Command[] {
  if ((property & ~TPMA_CC.V & ~CODE_MASK) !== 0) return [];
  const found = [...call.served.values()].map(({ command }) => command).filter(({ code }) => code >= property);
  return found.sort((a, b) => a.code - b.code);
}

function auditedCommands({ commandAudit }: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  const codes = commandsFrom(property, call).map(({ code }) => code);
  return page(
    codes.filter((code) => commandAudit.isAudited(code)),
    count,
    MAX_CAP_CC,
  );
}

function presenceCommands({ presence }: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  const codes = commandsFrom(property, call).map(({ code }) => code);
  return page(
    codes.filter((code) => presence.requires(code)),
    count,
    MAX_CAP_CC,
  );
}

/** The allocation comes whole; a count of 0 is answered with nothing, and that there is more. */
function pcrBanks({ pcrs }: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  if (property !== 0) throw call.error(TPM_RC.VALUE, 'property');
  return count === 0 ? { items: [], moreData: YES } : { items: allocationOf(pcrs), moreData: NO };
}

function policies(tpm: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  if (handleType(property) !== TPM_HT.PERMANENT) throw call.error(TPM_RC.VALUE, 'property');
  return page(policiesFrom(tpm, property), count, MAX_TAGGED_POLICIES);
}

function timers(_tpm: Tpm, property: number, count: number, call: Call<never, 'property'>): Page<unknown> {
  if (!inRange(property, HANDLE_RANGE.ACT)) throw call.error(TPM_RC.VALUE, 'property');
  return page([], count, MAX_ACT_DATA);
}

const readers: Readonly<Record<Capability, Reader>> = {
  [TPM_CAP.ALGS]: algorithms,
  [TPM_CAP.HANDLES]: handles,
  [TPM_CAP.COMMANDS]: commands,
  [TPM_CAP.PP_COMMANDS]: presenceCommands,
  [TPM_CAP.AUDIT_COMMANDS]: auditedCommands,
  [TPM_CAP.PCRS]: pcrBanks,
  [TPM_CAP.TPM_PROPERTIES]: (tpm, property, count, call) => page(propertiesFrom(tpm, property, call.served), count, MAX_TPM_PROPERTIES),
  [TPM_CAP.PCR_PROPERTIES]: ({ pcrs }, property, count) =>
    page(
      pcrProperties(pcrs).filter(({ tag }) => tag >= property),
      count,
      MAX_PCR_PROPERTIES,
    ),
  [TPM_CAP.ECC_CURVES]: (tpm, property, count) =>
    page(
      servedCurves(tpm).filter((curve) => curve >= (property & CODE_MASK)),
      count,
      MAX_ECC_CURVES,
    ),
  [TPM_CAP.AUTH_POLICIES]: policies,
  [TPM_CAP.ACT]: timers,
};

/** 30.2 */
const getCapability: Handler<typeof GetCapability> = (tpm, { capability, property, propertyCount }, call) => {
  if (capability === TPM_CAP.VENDOR_PROPERTY) throw call.error(TPM_RC.VALUE, 'capability');
  const { items, moreData } = readers[capability](tpm, property, propertyCount, call);
  // Each reader's items are those of its capability, which the type of a record cannot tell.
  return { moreData, capabilityData: { capability, data: items } } as Response<typeof GetCapability>;
};

/** 30.3: structure and algorithms were checked when the parameters were decoded; the rest is whether an engine can hold the key. */
const testParms: Handler<typeof TestParms> = (tpm, { parameters }, call) => {
  if (areKeyParametersServed(tpm, parameters)) return;
  throw call.error(parameters.type === TPM_ALG.ECC ? TPM_RC.CURVE : TPM_RC.VALUE, 'parameters');
};

export const capabilityHandlers = { GetCapability: getCapability, TestParms: testParms } satisfies Partial<Handlers>;
