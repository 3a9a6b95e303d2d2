// TPM 2.0 Library Part 3, 14: asymmetric primitives.
import { command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint16 } from '../../schema.js';
import {
  TPM2B_DATA,
  TPM2B_ECC_POINT,
  TPM2B_PUBLIC_KEY_RSA,
  TPMI_DH_OBJECT,
  TPMI_ECC_CURVE,
  TPMI_ECC_KEY_EXCHANGE,
  TPMS_ALGORITHM_DETAIL_ECC,
  TPMT_RSA_DECRYPT_PLUS,
} from '../../structures/index.js';

export const RSA_Encrypt = command(TPM_CC.RSA_Encrypt, 'RSA_Encrypt', {
  section: '14.2',
  handles: { keyHandle: noAuth(TPMI_DH_OBJECT) },
  in: { message: TPM2B_PUBLIC_KEY_RSA, inScheme: TPMT_RSA_DECRYPT_PLUS, label: TPM2B_DATA },
  out: { outData: TPM2B_PUBLIC_KEY_RSA },
});

export const RSA_Decrypt = command(TPM_CC.RSA_Decrypt, 'RSA_Decrypt', {
  section: '14.3',
  handles: { keyHandle: user(TPMI_DH_OBJECT) },
  in: { cipherText: TPM2B_PUBLIC_KEY_RSA, inScheme: TPMT_RSA_DECRYPT_PLUS, label: TPM2B_DATA },
  out: { message: TPM2B_PUBLIC_KEY_RSA },
});

export const ECDH_KeyGen = command(TPM_CC.ECDH_KeyGen, 'ECDH_KeyGen', {
  section: '14.4',
  handles: { keyHandle: noAuth(TPMI_DH_OBJECT) },
  out: { zPoint: TPM2B_ECC_POINT, pubPoint: TPM2B_ECC_POINT },
});

export const ECDH_ZGen = command(TPM_CC.ECDH_ZGen, 'ECDH_ZGen', {
  section: '14.5',
  handles: { keyHandle: user(TPMI_DH_OBJECT) },
  in: { inPoint: TPM2B_ECC_POINT },
  out: { outPoint: TPM2B_ECC_POINT },
});

export const ECC_Parameters = command(TPM_CC.ECC_Parameters, 'ECC_Parameters', {
  section: '14.6',
  in: { curveID: TPMI_ECC_CURVE },
  out: { parameters: TPMS_ALGORITHM_DETAIL_ECC },
});

export const ZGen_2Phase = command(TPM_CC.ZGen_2Phase, 'ZGen_2Phase', {
  section: '14.7',
  handles: { keyA: user(TPMI_DH_OBJECT) },
  in: { inQsB: TPM2B_ECC_POINT, inQeB: TPM2B_ECC_POINT, inScheme: TPMI_ECC_KEY_EXCHANGE, counter: uint16 },
  out: { outZ1: TPM2B_ECC_POINT, outZ2: TPM2B_ECC_POINT },
});
