// The keys of issuers that the configuration names.
import { readFile } from 'node:fs/promises';
import type { PropertySection } from '../../config/property-section.js';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { readPublicKey } from '../../statements/signing-keys.js';
import { Trust, type TrustRoot } from '../../statements/trust.js';

/** Reads the keys of `trust`. Rejects with a {@link Failure} that names the file. */
export async function readTrust({ trust = [] }: PropertySection): Promise<Trust> {
  const roots: TrustRoot[] = [];
  for (const { issuer, key: path, allowed } of trust) {
    try {
      roots.push({ issuer, key: readPublicKey(await readFile(path)), allowed });
    } catch (error) {
      throw new Failure(
        {
          code: 'bad_config',
          what: `reading the key ${path} of issuer ${issuer}`,
          why: reasonOf(error),
          hint: 'name a public key in PEM under properties.trust',
          exit: EXIT.usage,
        },
        { cause: error },
      );
    }
  }
  return new Trust(roots);
}
