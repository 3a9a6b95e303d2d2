// TPM 2.0 Library Part 1, C.6: key exchanges with a static and an ephemeral key on either side (SP 800-56A and GB/T 32918.3).
import { mod, toBigInt, toBytes, bitLength } from '../../crypto/big-integer.js';
import type { Curve } from '../../crypto/ecc-curves.js';
import { addPoints, type EccPoint, multiply, multiplyBase } from '../../crypto/ecc.js';
import type { PrivatePart } from '../../keys/engine.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';

/** The keys of an exchange: ours are A's, the other side's, on the curve, are B's. */
export interface ExchangeKeys {
  readonly curve: Curve;
  /** Holds our static private key. */
  readonly staticA: PrivatePart;
  /** Our ephemeral private key. */
  readonly ephemeralA: Buffer;
  readonly staticB: EccPoint;
  readonly ephemeralB: EccPoint;
}

const noPoint: EccPoint = { x: Buffer.alloc(0), y: Buffer.alloc(0) };

/**
 * The results `Z1` and `Z2`, the latter empty unless the scheme is ECDH. Our static key is used by its engine alone, so it may be
 * anywhere: `[(de + avf ds)]Q` is computed as `[de]Q + [ds][avf]Q`. `TPM_RC_NO_RESULT`, `TPM_RC_SCHEME`, bare.
 */
export async function exchange(scheme: number, keys: ExchangeKeys): Promise<{ outZ1: EccPoint; outZ2: EccPoint }> {
  const { curve, staticA, ephemeralA, staticB, ephemeralB } = keys;
  switch (scheme) {
    case TPM_ALG.ECDH:
      return { outZ1: await staticA.ecdhZGen(staticB), outZ2: multiply(curve, ephemeralA, ephemeralB) };
    case TPM_ALG.ECMQV: {
      const halfBits = Math.ceil(bitLength(curve.n) / 2);
      const peer = sum(curve, ephemeralB, times(curve, associated(ephemeralB, halfBits), staticB));
      const own = associated(multiplyBase(curve, ephemeralA), halfBits);
      const outZ1 = sum(curve, multiply(curve, ephemeralA, peer), await staticA.ecdhZGen(times(curve, own, peer)));
      return { outZ1, outZ2: noPoint };
    }
    case TPM_ALG.SM2: {
      const halfBits = Math.ceil(bitLength(curve.n) / 2) - 1;
      const peer = sum(curve, staticB, times(curve, associated(ephemeralB, halfBits), ephemeralB));
      const own = associated(multiplyBase(curve, ephemeralA), halfBits);
      const outZ1 = sum(curve, await staticA.ecdhZGen(peer), multiply(curve, ephemeralA, times(curve, own, peer)));
      return { outZ1, outZ2: noPoint };
    }
    default:
      throw new TpmError(TPM_RC.SCHEME);
  }
}

/** The associate value of an ephemeral public key: the lower `bits` bits of its x coordinate, and one bit above them. */
function associated({ x }: EccPoint, bits: number): bigint {
  const top = 1n << BigInt(bits);
  return mod(toBigInt(x), top) + top;
}

function times(curve: Curve, factor: bigint, point: EccPoint): EccPoint {
  return multiply(curve, toBytes(factor, curve.orderBytes), point);
}

function sum(curve: Curve, a: EccPoint, b: EccPoint): EccPoint {
  const point = addPoints(curve, a, b);
  if (point === undefined) throw new TpmError(TPM_RC.NO_RESULT);
  return point;
}
