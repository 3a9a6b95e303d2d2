// TPM 2.0 Library Part 2, 6.14: TPM_CAP_PCRS and TPM_CAP_PCR_PROPERTIES.
import { NUM_LOCALITIES, TPM_PT_PCR } from '../../tpm/constants/index.js';
import { pcrBitmap } from '../../tpm/pcr-bitmap.js';
import type { TPML_PCR_SELECTION, TPMS_TAGGED_PCR_SELECT } from '../../tpm/structures/index.js';
import type { Pcrs } from '../state/pcr/pcrs.js';

const DRTM_LOCALITY = 4;

/** The PCRs for which `holds`, as a bit map. */
export function bitmapWhere({ matrix }: Pcrs, holds: (index: number) => boolean): Buffer {
  return pcrBitmap(Array.from({ length: matrix.size }, (_, index) => index).filter(holds));
}

/** Every implemented bank with the PCRs that exist in it. */
export function allocationOf(pcrs: Pcrs): TPML_PCR_SELECTION {
  return pcrs.allocation.selection(pcrs.implementedBanks);
}

/** The PCRs for which each property holds, ascending by property. */
export function pcrProperties(pcrs: Pcrs): TPMS_TAGGED_PCR_SELECT[] {
  const tagged = (tag: number, isSet: (index: number) => boolean): TPMS_TAGGED_PCR_SELECT => ({ tag, pcrSelect: bitmapWhere(pcrs, isSet) });
  const resets = (index: number, locality: number): boolean => (pcrs.attribute(index).resetLocality & (1 << locality)) !== 0;
  const localities = Array.from({ length: NUM_LOCALITIES }, (_, locality) => [
    tagged(TPM_PT_PCR.EXTEND_L0 + 2 * locality, (index) => pcrs.extendAllowed(index, locality)),
    tagged(TPM_PT_PCR.RESET_L0 + 2 * locality, (index) => resets(index, locality)),
  ]);
  return [
    tagged(TPM_PT_PCR.SAVE, (index) => pcrs.attribute(index).stateSave),
    ...localities.flat(),
    tagged(TPM_PT_PCR.NO_INCREMENT, (index) => pcrs.attribute(index).noIncrement),
    tagged(TPM_PT_PCR.DRTM_RESET, (index) => resets(index, DRTM_LOCALITY)),
    tagged(TPM_PT_PCR.POLICY, (index) => pcrs.hasGroupPolicy(index)),
    tagged(TPM_PT_PCR.AUTH, (index) => pcrs.hasGroupAuth(index)),
  ];
}
