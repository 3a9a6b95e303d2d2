// Which keys a guest can have: what the engines of its vTPM can hold.
import { TPM_ALG, TPM_ECC_CURVE } from '../../tpm/constants/index.js';
import type { TPMI_ECC_CURVE, TPMT_PUBLIC, TPMT_PUBLIC_PARMS } from '../../tpm/structures/index.js';
import type { Tpm } from '../tpm.js';

const empty = Buffer.alloc(0);
const noScheme = { scheme: TPM_ALG.NULL, details: null } as const;

/** Whether some engine can hold a key with these parameters. */
export function areKeyParametersServed({ keys }: Tpm, parms: TPMT_PUBLIC_PARMS): boolean {
  const unique = parms.type === TPM_ALG.ECC ? { x: empty, y: empty } : empty;
  const publicArea = { ...parms, nameAlg: TPM_ALG.SHA256, objectAttributes: 0, authPolicy: empty, unique } as TPMT_PUBLIC;
  return keys.engineFor(publicArea).supports(publicArea);
}

/** Curves of ECC keys, ascending. */
export function servedCurves(tpm: Tpm): number[] {
  const symmetric = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
  const serves = (curveID: TPMI_ECC_CURVE): boolean =>
    areKeyParametersServed(tpm, { type: TPM_ALG.ECC, parameters: { symmetric, scheme: noScheme, curveID, kdf: noScheme } });
  return Object.values(TPM_ECC_CURVE).filter((curve) => curve !== TPM_ECC_CURVE.NONE && serves(curve));
}
