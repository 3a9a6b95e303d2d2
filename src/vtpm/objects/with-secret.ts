import type { PrivatePart } from '../../keys/engine.js';

/** Runs `use` with the sensitive bytes of a keyedhash or symcipher object, which are zeroized after it. */
export async function withSecret<T>(privatePart: PrivatePart, use: (sensitive: Buffer) => T | Promise<T>): Promise<T> {
  const { seedValue, sensitive } = await privatePart.secret();
  try {
    return await use(sensitive);
  } finally {
    seedValue.fill(0);
    sensitive.fill(0);
  }
}
