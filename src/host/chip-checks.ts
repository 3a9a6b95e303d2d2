// Whether a chip can do what tpmux needs.
import type { ChipInfo } from '../hardware/chip/info.js';
import { TPM_ALG, TPM_ECC_CURVE } from '../tpm/constants/index.js';

export type CheckResult = 'ok' | 'warn' | 'fail';

/** One line of `tpmux doctor`. */
export interface Check {
  readonly name: string;
  readonly result: CheckResult;
  readonly detail: string;
  /** What to do; empty if nothing. */
  readonly hint: string;
}

/** A check that `good` decides. */
export function check(
  name: string,
  good: boolean,
  detail: string,
  otherwise: { result: CheckResult; detail?: string; hint: string },
): Check {
  return good ? { name, result: 'ok', detail, hint: '' } : { name, detail, ...otherwise };
}

const ALGORITHMS = {
  RSA: TPM_ALG.RSA,
  ECC: TPM_ALG.ECC,
  'SHA-256': TPM_ALG.SHA256,
  HMAC: TPM_ALG.HMAC,
  AES: TPM_ALG.AES,
  CFB: TPM_ALG.CFB,
} as const;

/** Checks of what a chip says of itself. */
export function checkChip(info: ChipInfo): Check[] {
  const missing = Object.entries(ALGORITHMS).filter(([, id]) => !info.algorithms.has(id));
  return [
    {
      name: 'TPM',
      result: 'ok',
      detail: `${info.manufacturer} ${info.vendor}, firmware ${info.firmware}, TPM 2.0 revision ${info.specification}`,
      hint: '',
    },
    check('algorithms', missing.length === 0, Object.keys(ALGORITHMS).join(', '), {
      result: 'fail',
      detail: `missing: ${missing.map(([name]) => name).join(', ')}`,
      hint: 'tpmux needs a TPM that has them',
    }),
    needed('RSA 2048', info.rsaKeyBits.has(2048)),
    optional('RSA 3072', info.rsaKeyBits.has(3072)),
    needed('ECC NIST P-256', info.curves.has(TPM_ECC_CURVE.NIST_P256)),
    optional('ECC NIST P-384', info.curves.has(TPM_ECC_CURVE.NIST_P384)),
    slots(info.slots),
    check('persistent memory', info.persistentFree > 0, `room for ${info.persistentFree.toString()} keys`, {
      result: 'warn',
      detail: 'full',
      hint: 'if tpmux has no key there yet, free one with tpm2_evictcontrol',
    }),
    check('lockout', !info.lockedOut, 'not in lockout', {
      result: 'warn',
      detail: 'the TPM is in dictionary-attack lockout',
      hint: 'wait, or reset it with tpm2_dictionarylockout --clear-lockout',
    }),
  ];
}

function needed(name: string, there: boolean): Check {
  return check(name, there, 'supported', { result: 'fail', detail: 'not supported', hint: 'tpmux needs a TPM that has it' });
}

function optional(name: string, there: boolean): Check {
  return check(name, there, 'supported', { result: 'warn', detail: 'not supported', hint: 'guests cannot have such keys in this TPM' });
}

function slots(count: number): Check {
  const detail = `${count.toString()} free`;
  if (count >= 3) return { name: 'object slots', result: 'ok', detail, hint: '' };
  const hint = 'flush what other programs left loaded: tpm2_flushcontext -t';
  return { name: 'object slots', result: count >= 2 ? 'warn' : 'fail', detail, hint };
}
