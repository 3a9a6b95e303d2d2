// Digests as people write them.
import { EXIT, Failure } from '../failure.js';
import { digestSize } from '../tpm/hash.js';
import { DIGEST_BANKS, DIGEST_NAMES } from './statement.js';

/** Reads `sha256:HEX`, or HEX alone, whose length then tells the algorithm. Throws a {@link Failure} for anything else. */
export function parseDigest(text: string): { readonly bank: number; readonly digest: Buffer } {
  const [name, rest] = text.includes(':') ? [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)] : [undefined, text];
  const hex = rest.toLowerCase().replace(/^0x/, '');
  const found = DIGEST_NAMES.find((one) => (name === undefined || name === one) && hex.length === 2 * digestSize(DIGEST_BANKS[one]));
  if (found === undefined || !/^[0-9a-f]+$/.test(hex)) {
    throw new Failure({
      code: 'bad_digest',
      what: `digest ${JSON.stringify(text.slice(0, 160))}`,
      why: 'it is no digest in hexadecimal',
      hint: 'write for example sha256:HEX; sha1, sha384 and sha512 are the others',
      exit: EXIT.usage,
    });
  }
  return { bank: DIGEST_BANKS[found], digest: Buffer.from(hex, 'hex') };
}
