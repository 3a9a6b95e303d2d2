// TCG Algorithm Registry, 6: parameters of the elliptic curves that software keys can use.
import { TPM_ECC_CURVE } from '../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type { TPMI_ECC_CURVE } from '../tpm/structures/index.js';
import { bitLength } from './big-integer.js';

/** A prime curve `y² = x³ + ax + b` over `p` with base point `(gX, gY)` of prime order `n`; the cofactor is 1. */
export interface Curve {
  readonly id: TPMI_ECC_CURVE;
  /** OpenSSL's name; undefined if it does not have the curve. */
  readonly name: string | undefined;
  /** Bits of a key (`TPMS_ALGORITHM_DETAIL_ECC.keySize`). */
  readonly keyBits: number;
  /** Bytes of a coordinate. */
  readonly bytes: number;
  /** Bytes of a scalar. */
  readonly orderBytes: number;
  readonly p: bigint;
  readonly a: bigint;
  readonly b: bigint;
  readonly gX: bigint;
  readonly gY: bigint;
  readonly n: bigint;
}

/** The first number is `p`, then `b`, `gX`, `gY`, `n`; `a` is `p - 3` unless told otherwise. */
function curve(
  id: TPMI_ECC_CURVE,
  name: string | undefined,
  numbers: readonly [string, string, string, string, string],
  a?: bigint,
): Curve {
  const [p, b, gX, gY, n] = numbers.map((hex) => BigInt(`0x${hex}`)) as [bigint, bigint, bigint, bigint, bigint];
  const keyBits = bitLength(p);
  return { id, name, keyBits, bytes: Math.ceil(keyBits / 8), orderBytes: Math.ceil(bitLength(n) / 8), p, a: a ?? p - 3n, b, gX, gY, n };
}

const curves = [
  curve(TPM_ECC_CURVE.NIST_P192, 'prime192v1', [
    'fffffffffffffffffffffffffffffffeffffffffffffffff',
    '64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1',
    '188da80eb03090f67cbf20eb43a18800f4ff0afd82ff1012',
    '07192b95ffc8da78631011ed6b24cdd573f977a11e794811',
    'ffffffffffffffffffffffff99def836146bc9b1b4d22831',
  ]),
  curve(TPM_ECC_CURVE.NIST_P224, 'secp224r1', [
    'ffffffffffffffffffffffffffffffff000000000000000000000001',
    'b4050a850c04b3abf54132565044b0b7d7bfd8ba270b39432355ffb4',
    'b70e0cbd6bb4bf7f321390b94a03c1d356c21122343280d6115c1d21',
    'bd376388b5f723fb4c22dfe6cd4375a05a07476444d5819985007e34',
    'ffffffffffffffffffffffffffff16a2e0b8f03e13dd29455c5c2a3d',
  ]),
  curve(TPM_ECC_CURVE.NIST_P256, 'prime256v1', [
    'ffffffff00000001000000000000000000000000ffffffffffffffffffffffff',
    '5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b',
    '6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296',
    '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
    'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
  ]),
  curve(TPM_ECC_CURVE.NIST_P384, 'secp384r1', [
    'fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff',
    'b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef',
    'aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7',
    '3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f',
    'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
  ]),
  curve(TPM_ECC_CURVE.NIST_P521, 'secp521r1', [
    '01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    '0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00',
    '00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66',
    '011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650',
    '01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409',
  ]),
  curve(
    TPM_ECC_CURVE.BN_P256,
    undefined,
    [
      'fffffffffffcf0cd46e5f25eee71a49f0cdc65fb12980a82d3292ddbaed33013',
      '03',
      '01',
      '02',
      'fffffffffffcf0cd46e5f25eee71a49e0cdc65fb1299921af62d536cd10b500d',
    ],
    0n,
  ),
  curve(
    TPM_ECC_CURVE.BN_P638,
    undefined,
    [
      '23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52ffffdd0e00008de55c00086520021e55bfffff51ffff4eb800000004c80015acdffffffffffffece00000000000000067',
      '0101',
      '23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52ffffdd0e00008de55c00086520021e55bfffff51ffff4eb800000004c80015acdffffffffffffece00000000000000066',
      '10',
      '23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52ffffdd0e00008de55600086550021e555fffff54ffff4eac000000049800154d9ffffffffffffeda00000000000000061',
    ],
    0n,
  ),
  curve(TPM_ECC_CURVE.SM2_P256, 'SM2', [
    'fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff',
    '28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93',
    '32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7',
    'bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0',
    'fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123',
  ]),
] as const;

const byId = new Map<number, Curve>(curves.map((one) => [one.id, one]));

/** Identifiers of the curves that software keys can use, ascending. */
export const SOFTWARE_CURVES: readonly TPMI_ECC_CURVE[] = curves.map((one) => one.id);

/** Parameters of a curve, if it is one of {@link SOFTWARE_CURVES}. */
export function findCurve(id: number): Curve | undefined {
  return byId.get(id);
}

/** Parameters of a curve. `TPM_RC_CURVE` if it is not one of {@link SOFTWARE_CURVES}. */
export function getCurve(id: number): Curve {
  const found = byId.get(id);
  if (found === undefined) throw new TpmError(TPM_RC.CURVE);
  return found;
}
