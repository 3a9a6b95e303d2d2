// TPM 2.0 Library Part 2, 8.2 and 10.8.1: the algorithms that a vTPM serves. The table is true: what is missing in it is refused.
import { TPM_ALG, TPMA_ALGORITHM } from '../../tpm/constants/index.js';
import type { TPMS_ALG_PROPERTY } from '../../tpm/structures/index.js';

const { asymmetric, symmetric, hash, object, signing, encrypting, method } = TPMA_ALGORITHM;

const table: readonly (readonly [alg: number, algProperties: number])[] = [
  [TPM_ALG.RSA, asymmetric | object],
  [TPM_ALG.TDES, symmetric],
  [TPM_ALG.SHA1, hash],
  [TPM_ALG.HMAC, hash | signing],
  [TPM_ALG.AES, symmetric],
  [TPM_ALG.MGF1, hash | method],
  [TPM_ALG.KEYEDHASH, hash | object | signing | encrypting],
  [TPM_ALG.XOR, hash | symmetric],
  [TPM_ALG.SHA256, hash],
  [TPM_ALG.SHA384, hash],
  [TPM_ALG.SHA512, hash],
  [TPM_ALG.RSASSA, asymmetric | signing],
  [TPM_ALG.RSAES, asymmetric | encrypting],
  [TPM_ALG.RSAPSS, asymmetric | signing],
  [TPM_ALG.OAEP, asymmetric | encrypting],
  [TPM_ALG.ECDSA, asymmetric | signing],
  [TPM_ALG.ECDH, asymmetric | method],
  [TPM_ALG.ECDAA, asymmetric | signing],
  [TPM_ALG.SM2, asymmetric | signing | method],
  [TPM_ALG.ECSCHNORR, asymmetric | signing],
  [TPM_ALG.ECMQV, asymmetric | method],
  [TPM_ALG.KDF1_SP800_56A, hash | method],
  [TPM_ALG.KDF2, hash | method],
  [TPM_ALG.KDF1_SP800_108, hash | method],
  [TPM_ALG.ECC, asymmetric | object],
  [TPM_ALG.SYMCIPHER, object],
  [TPM_ALG.CAMELLIA, symmetric],
  [TPM_ALG.CMAC, symmetric | signing],
  [TPM_ALG.CTR, symmetric | encrypting],
  [TPM_ALG.OFB, symmetric | encrypting],
  [TPM_ALG.CBC, symmetric | encrypting],
  [TPM_ALG.CFB, symmetric | encrypting],
  [TPM_ALG.ECB, symmetric | encrypting],
];

/** What a vTPM serves, in ascending order of the algorithm. */
export const servedAlgorithms: readonly TPMS_ALG_PROPERTY[] = table.map(([alg, algProperties]) => ({ alg, algProperties }));
