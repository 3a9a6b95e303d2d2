// Files and values of the property commands.
import { readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { hash } from '../../tpm/hash.js';
import { authenticodeParts } from '../../statements/authenticode.js';
import { parseDigest } from '../../statements/digest-text.js';
import type { Properties } from '../../statements/properties.js';
import { PropertyError } from '../../statements/property-error.js';
import { readPrivateKey, type SigningKey } from '../../statements/signing-keys.js';
import { DIGEST_BANKS, DIGEST_NAMES, type Subject } from '../../statements/statement.js';

/** A file's bytes. Rejects with a {@link Failure}. */
export async function readBytes(path: string): Promise<Buffer> {
  return readFile(path).catch((error: unknown) => {
    throw new Failure({
      code: 'no_file',
      what: `reading ${path}`,
      why: reasonOf(error),
      hint: 'name a file that can be read',
      exit: EXIT.usage,
    });
  });
}

export async function readText(path: string): Promise<string> {
  return (await readBytes(path)).toString('utf8');
}

/** Writes a result to a file that must not exist yet, or to standard output. */
export async function writeResult(text: string, path: string | undefined): Promise<void> {
  if (path === undefined) {
    process.stdout.write(`${text}\n`);
    return;
  }
  await writeFile(path, `${text}\n`, { flag: 'wx' }).catch((error: unknown) => {
    throw new Failure({
      code: 'not_written',
      what: `writing ${path}`,
      why: reasonOf(error),
      hint: 'name a file that does not exist',
      exit: EXIT.failed,
    });
  });
}

/** An issuer's private key. Rejects with a {@link Failure}. */
export async function readKey(path: string): Promise<SigningKey> {
  const pem = await readBytes(path);
  return naming(`reading the key ${path}`, () => readPrivateKey(pem));
}

/** Runs something; a {@link PropertyError} becomes a {@link Failure}. */
export function naming<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof PropertyError)) throw error;
    throw new Failure({ code: error.code, what, why: error.message, hint: 'see docs/properties.md', exit: EXIT.usage }, { cause: error });
  }
}

/** An option that may be given several times. */
export const collect = (text: string, earlier: readonly string[] = []): readonly string[] => [...earlier, text];

/** A moment, as ISO 8601 writes it. */
export function timeOption(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Expected a time such as 2026-01-31T12:00:00Z.');
  return time;
}

/** Option `--property NAME=VALUE`, repeatable; numbers and booleans are such, `NAME` alone is true. */
export function propertyOption(text: string, earlier: Properties = {}): Properties {
  const at = text.indexOf('=');
  const name = at < 0 ? text : text.slice(0, at);
  if (name === '') throw new InvalidArgumentError('Expected NAME=VALUE.');
  return { ...earlier, [name]: at < 0 ? true : valueOf(text.slice(at + 1)) };
}

function valueOf(text: string): Properties[string] {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?(0|[1-9]\d{0,14})$/.test(text) ? Number(text) : text;
}

/** A file as a subject: the digests of its content in all banks. */
export async function fileSubject(path: string): Promise<Subject> {
  return subjectOf(path, [await readBytes(path)]);
}

/** An EFI program as a subject: its Authenticode digests in all banks. */
export async function efiSubject(path: string): Promise<Subject> {
  const bytes = await readBytes(path);
  return naming(`reading ${path}`, () => subjectOf(path, authenticodeParts(bytes)));
}

function subjectOf(path: string, parts: readonly Buffer[]): Subject {
  const digest = Object.fromEntries(DIGEST_NAMES.map((name) => [name, hash(DIGEST_BANKS[name], ...parts).toString('hex')]));
  return { name: basename(path), digest };
}

/** Digests of one thing as a subject: `NAME=DIGEST[,DIGEST…]`, or `DIGEST[,DIGEST…]`. */
export function digestSubject(text: string): Subject {
  const at = text.indexOf('=');
  const digests = text
    .slice(at + 1)
    .split(',')
    .map(parseDigest);
  const digest = Object.fromEntries(
    digests.map(({ bank, digest: bytes }) => [DIGEST_NAMES.find((name) => DIGEST_BANKS[name] === bank) ?? '', bytes.toString('hex')]),
  );
  return { name: at < 0 ? '' : text.slice(0, at), digest };
}
