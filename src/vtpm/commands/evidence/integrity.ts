// TPM 2.0 Library Part 3, 22: integrity collection (PCR).
import type { Response } from '../../../tpm/command.js';
import type {
  PCR_Allocate,
  PCR_Event,
  PCR_Extend,
  PCR_Read,
  PCR_Reset,
  PCR_SetAuthPolicy,
  PCR_SetAuthValue,
} from '../../../tpm/commands/index.js';
import { DRTM_PCR, HCRTM_PCR, IMPLEMENTATION_PCR, TPM_RH } from '../../../tpm/constants/index.js';
import { digestSize, hash } from '../../../tpm/hash.js';
import { pcrBitmap, selectedPcrs } from '../../../tpm/pcr-bitmap.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { trimAuth } from '../../../tpm/session-crypto.js';
import { type TPML_DIGEST_VALUES, type TPML_PCR_SELECTION, type TPMT_HA, YES } from '../../../tpm/structures/index.js';
import type { Call } from '../../dispatch/call.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import type { Tpm } from '../../tpm.js';

/** Digests that one PCR_Read gives at most. */
const MAX_READ_DIGESTS = 8;

/** `TPM_RC_LOCALITY` if the PCR may not be extended from the command's locality. TPM_RH_NULL, which is no PCR, always may. */
export function requireExtendAllowed(tpm: Tpm, pcrHandle: number, call: Call): void {
  if (pcrHandle !== TPM_RH.NULL && !tpm.pcrs.extendAllowed(pcrHandle, call.locality)) throw call.error(TPM_RC.LOCALITY);
}

/**
 * Extends a PCR whose locality was checked; with TPM_RH_NULL nothing happens. `TPM_RC_POLICY_FAIL`, after the PCR was extended, if a
 * property provider refuses the measurement.
 */
export async function extendPcr(tpm: Tpm, pcrHandle: number, values: TPML_DIGEST_VALUES, call: Call, eventData?: Buffer): Promise<void> {
  const { command, locality } = call;
  if (pcrHandle === TPM_RH.NULL) return;
  noteChange(tpm, pcrHandle);
  const digests = values.map(({ hashAlg: bank, digest }) => ({ bank, digest }));
  const accepted = await tpm.pcrs.extend({ index: pcrHandle, locality, digests, eventData });
  const logged = digests.map(({ bank: alg, digest }) => ({ alg, digest }));
  tpm.pcrLog.add({ kind: 'extend', command: command.name, locality, pcr: pcrHandle, digests: logged });
  if (!accepted) throw call.error(TPM_RC.POLICY_FAIL);
}

/** A PCR that Shutdown(STATE) keeps makes an earlier shutdown void. */
function noteChange(tpm: Tpm, pcr: number): void {
  if (tpm.pcrs.attribute(pcr).stateSave) tpm.power.disorder();
}

/** 22.2 */
const pcrExtend: Handler<typeof PCR_Extend> = async (tpm, { pcrHandle, digests }, call) => {
  requireExtendAllowed(tpm, pcrHandle, call);
  await extendPcr(tpm, pcrHandle, digests, call);
};

/** 22.3: digests of all implemented banks, allocated or not. */
const pcrEvent: Handler<typeof PCR_Event> = async (tpm, { pcrHandle, eventData }, call) => {
  requireExtendAllowed(tpm, pcrHandle, call);
  const digests = tpm.pcrs.implementedBanks.map((hashAlg) => ({ hashAlg, digest: hash(hashAlg, eventData) }) as TPMT_HA);
  await extendPcr(tpm, pcrHandle, digests, call, eventData);
  return { digests };
};

/** What PCR_Read answers, of what the guest sees or of the vector of `provider`, which must exist. */
export function readPcrs({ pcrs }: Tpm, pcrSelectionIn: TPML_PCR_SELECTION, provider?: string): Response<typeof PCR_Read> {
  const pcrValues: Buffer[] = [];
  const pcrSelectionOut = pcrs.filter(pcrSelectionIn).map(({ hash: bank, pcrSelect }) => {
    const given = selectedPcrs(pcrSelect).slice(0, MAX_READ_DIGESTS - pcrValues.length);
    for (const index of given) pcrValues.push(pcrs.matrix.read(bank, index, provider));
    return { hash: bank, pcrSelect: pcrBitmap(given, pcrSelect.length) };
  });
  return { pcrUpdateCounter: pcrs.updateCounter, pcrSelectionOut, pcrValues };
}

/** 22.4 */
const pcrRead: Handler<typeof PCR_Read> = (tpm, { pcrSelectionIn }) => readPcrs(tpm, pcrSelectionIn);

/** 22.5: changes of what exists now, whatever was asked for before. There is always room for what is asked: no bank can have more than all PCRs. */
const pcrAllocate: Handler<typeof PCR_Allocate> = ({ pcrs }, { pcrAllocation }, call) => {
  const wanted = pcrs.allocation.with(pcrAllocation);
  const somewhere = (pcr: number): boolean => wanted.banks.some((bank) => wanted.has(bank, pcr));
  if (!somewhere(HCRTM_PCR) || !somewhere(DRTM_PCR)) throw call.error(TPM_RC.PCR);
  pcrs.allocate(wanted);
  return {
    allocationSuccess: YES,
    maxPCR: IMPLEMENTATION_PCR,
    sizeNeeded: wanted.banks.reduce((sum, bank) => sum + selectedPcrs(wanted.bitmap(bank)).length * digestSize(bank), 0),
    sizeAvailable: pcrs.implementedBanks.reduce((sum, bank) => sum + IMPLEMENTATION_PCR * digestSize(bank), 0),
  };
};

/** 22.6 */
const pcrSetAuthPolicy: Handler<typeof PCR_SetAuthPolicy> = ({ pcrs }, { authPolicy, hashAlg, pcrNum }, call) => {
  if (authPolicy.length !== digestSize(hashAlg)) throw call.error(TPM_RC.SIZE, 'authPolicy');
  if (!pcrs.hasGroupPolicy(pcrNum)) throw call.error(TPM_RC.VALUE, 'pcrNum');
  pcrs.setGroupPolicy(hashAlg, Buffer.from(authPolicy));
};

/** 22.7 */
const pcrSetAuthValue: Handler<typeof PCR_SetAuthValue> = (tpm, { pcrHandle, auth }, call) => {
  if (!tpm.pcrs.hasGroupAuth(pcrHandle)) throw call.error(TPM_RC.VALUE);
  tpm.power.disorder();
  tpm.pcrs.groupAuth.fill(0);
  tpm.pcrs.groupAuth = Buffer.from(trimAuth(auth));
};

/** 22.8 */
const pcrReset: Handler<typeof PCR_Reset> = (tpm, { pcrHandle }, call) => {
  if (!tpm.pcrs.resetAllowed(pcrHandle, call.locality)) throw call.error(TPM_RC.LOCALITY);
  noteChange(tpm, pcrHandle);
  tpm.pcrs.reset(pcrHandle);
  tpm.pcrLog.add({ kind: 'reset', command: call.command.name, locality: call.locality, pcr: pcrHandle, digests: [] });
};

export const integrityHandlers = {
  PCR_Extend: pcrExtend,
  PCR_Event: pcrEvent,
  PCR_Read: pcrRead,
  PCR_Allocate: pcrAllocate,
  PCR_SetAuthPolicy: pcrSetAuthPolicy,
  PCR_SetAuthValue: pcrSetAuthValue,
  PCR_Reset: pcrReset,
} satisfies Partial<Handlers>;
