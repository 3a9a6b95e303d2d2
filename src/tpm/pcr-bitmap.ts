// TPM 2.0 Library Part 2, 10.6.1: sets of PCRs as bit maps. PCR `i` is bit `i % 8` of byte `i / 8`.
import { PCR_SELECT_MAX } from './constants/index.js';

/** The bit map of these PCRs, of `size` bytes; none may be beyond that. */
export function pcrBitmap(indices: readonly number[], size = PCR_SELECT_MAX): Buffer {
  const bitmap = Buffer.alloc(size);
  for (const index of indices) bitmap[index >> 3] = (bitmap[index >> 3] ?? 0) | (1 << (index & 7));
  return bitmap;
}

/** Indices of the bits that are set in a PCR bit map, ascending. */
export function selectedPcrs(bitmap: Buffer): number[] {
  const indices: number[] = [];
  bitmap.forEach((byte, octet) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) indices.push(octet * 8 + bit);
  });
  return indices;
}
