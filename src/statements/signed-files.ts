// Signed documents as plain files. They are public and signed, so they are neither encrypted nor believed.
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { systemCode } from '../failure.js';
import { MAX_ENVELOPE } from './dsse.js';

const NAME = /^[0-9a-f]{64}\.json$/;

/** A file that was read, or why not. */
export type SignedFile = { readonly path: string; readonly text: string } | { readonly path: string; readonly problem: string };

/** A directory of envelopes, each in a file that is called by the SHA-256 that the caller chooses, below its first two digits. */
export class SignedFiles {
  constructor(readonly directory: string) {}

  path(id: string): string {
    return join(this.directory, id.slice(0, 2), `${id}.json`);
  }

  /** Writes one document, all or nothing; it survives power loss when this returns. */
  write(id: string, text: string): void {
    const path = this.path(id);
    const directory = dirname(path);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const temporary = `${path}.new`;
    const file = openSync(temporary, 'w', 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    sync(directory);
    sync(this.directory);
  }

  remove(id: string): void {
    rmSync(this.path(id), { force: true });
    try {
      sync(dirname(this.path(id)));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }

  /** One document; undefined if there is none. */
  read(id: string): string | undefined {
    try {
      return readFileSync(this.path(id), 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** All documents; files with other names are passed over. */
  *all(): Generator<SignedFile> {
    for (const part of listed(this.directory)) {
      if (!/^[0-9a-f]{2}$/.test(part)) continue;
      for (const name of listed(join(this.directory, part))) {
        if (NAME.test(name)) yield readSigned(join(this.directory, part, name));
      }
    }
  }
}

function readSigned(path: string): SignedFile {
  try {
    if (statSync(path).size > MAX_ENVELOPE) return { path, problem: 'it is too large' };
    return { path, text: readFileSync(path, 'utf8') };
  } catch (error) {
    return { path, problem: error instanceof Error ? error.message : String(error) };
  }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return [];
    throw error;
  }
}

function sync(directory: string): void {
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
