// A file that is given by mistake is not repeated in the error.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { parseConfig } from '../../src/config/config.js';
import { Failure } from '../../src/failure.js';
import { readBackup } from '../../src/guests/backups/document.js';
import { parsePolicy } from '../../src/policy/policy-file.js';
import { parseEnvelope } from '../../src/statements/dsse.js';
import { parseEvidence } from '../../src/verifier/evidence.js';

/** As long as what key files are made of; a short name that is not known is repeated, for who misspelled it. */
const MARKER = 'Zm9yYmlkZGVuIHRvIHJlcGVhdCBpdCBpbiBhbnkgZXJyb3Igb3IgbG9n';
const key = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
}).privateKey;

const readers: readonly (readonly [string, (text: string) => unknown])[] = [
  ['configuration', (text) => parseConfig('tpmux.yaml', text)],
  ['policy', (text) => parsePolicy('web.yaml', text)],
  ['backup', readBackup],
  ['envelope', parseEnvelope],
  ['evidence', parseEvidence],
];

const texts = fc.oneof(
  fc.constant(key),
  fc
    .constantFrom('', '- ', 'version: ', 'version: 1\nlimits: ', '{"', '[', '&x *y ', 'a: b: ', '"', "'", '!!set ', '? ')
    .map((start) => start + MARKER),
  fc.constantFrom('version', 'class', 'keys', 'run-dir', 'backup', 'type', 'payload', MARKER).map((name) => `${name}: ${MARKER}`),
  fc.constantFrom('version', 'class', 'hardware', 'rollback', 'tpmux').map((name) => JSON.stringify({ [name]: { [name]: [MARKER] } })),
);

describe('what is wrong with a file', () => {
  for (const [what, read] of readers) {
    it(`is told without a part of it: ${what}`, () => {
      fc.assert(
        fc.property(texts, (text) => {
          try {
            read(text);
          } catch (error) {
            assert.ok(error instanceof Error);
            const told = error instanceof Failure ? `${error.what} ${error.why} ${error.hint}` : error.message;
            assert.ok(!told.includes(MARKER) && !told.includes(key.slice(40, 60)), told);
          }
        }),
      );
    });
  }
});
