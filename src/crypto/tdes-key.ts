// SP 800-67: which keys TDES takes.

/** Sets the parity bit, the lowest, of every byte of a key so that it has an odd number of ones; in place. */
export function setOddParity(key: Buffer): void {
  key.forEach((byte, i) => {
    const ones = (byte >> 1).toString(2).replaceAll('0', '').length;
    key[i] = (byte & 0xfe) | (ones % 2 === 0 ? 1 : 0);
  });
}

const LEFT = [0x01, 0x1f, 0xe0, 0xfe];
const RIGHT = [0x01, 0x0e, 0xf1, 0xfe];

/**
 * Whether a DES key with odd parity is one of the 64 weak, semi-weak and possibly weak keys. Their bytes are of four kinds, the two
 * halves correspond, and the kinds of a half cancel out.
 */
function isWeak(key: Buffer): boolean {
  const kinds = [...key].map((byte, i) => (i < 4 ? LEFT : RIGHT).indexOf(byte));
  const [a = 0, b = 0, c = 0, d = 0] = kinds;
  return !kinds.includes(-1) && kinds.slice(0, 4).every((kind, i) => kind === kinds[i + 4]) && (a ^ b ^ c ^ d) === 0;
}

/** Whether a two- or three-key TDES key may be used: no part is weak, neighbors differ. */
export function isTdesKey(key: Buffer): boolean {
  if (key.length !== 16 && key.length !== 24) return false;
  const copy = Buffer.from(key);
  setOddParity(copy);
  const parts: Buffer[] = [];
  for (let at = 0; at < copy.length; at += 8) parts.push(copy.subarray(at, at + 8));
  const ok = parts.every((part, i) => !isWeak(part) && parts[i + 1]?.equals(part) !== true);
  copy.fill(0);
  return ok;
}
