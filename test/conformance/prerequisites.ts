// What must be there before the suite can run: the source of tpm2-tools, of the version of the installed tools, and the programs it uses.
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { REAL_TOOL, suiteDirectory } from './scripts.js';

/** The suite cannot run, or not to its end; the message says why, and what is missing and how to get it. */
export class CannotRun extends Error {}

export interface Versions {
  readonly tools: string;
  readonly swtpm: string;
}

// Program (or a file that a package brings), Debian package.
const PROGRAMS: readonly (readonly [string, string])[] = [
  [REAL_TOOL, 'tpm2-tools'],
  ['/usr/bin/tss2', 'tpm2-tools'],
  ['/usr/bin/swtpm', 'swtpm'],
  ['/usr/bin/openssl', 'openssl'],
  ['/usr/bin/xxd', 'xxd'],
  ['/usr/bin/expect', 'expect'],
  ['/usr/bin/python3', 'python3'],
  ['/usr/bin/flock', 'util-linux'],
  ['/usr/bin/setpriv', 'util-linux'],
];

/** Checks everything; the versions of what is installed. Throws {@link CannotRun}. */
export function checkPrerequisites(source: string | undefined): Versions & { readonly source: string } {
  const packages = new Set(PROGRAMS.filter(([path]) => !isExecutable(path)).map(([, name]) => name));
  if (!packages.has('python3') && !succeeds('/usr/bin/python3', '-c', 'import yaml')) packages.add('python3-yaml');
  if (packages.size > 0) throw new CannotRun(`packages are missing (apt-get install ${[...packages].join(' ')})`);
  const tools = versionOf(REAL_TOOL, /version="([^"]+)"/);
  const how = `git clone --depth 1 --branch ${tools} https://github.com/tpm2-software/tpm2-tools, then TPM2TOOLS_SRC=that directory`;
  if (source === undefined || source === '')
    throw new CannotRun(`TPM2TOOLS_SRC is not set; it names the source of tpm2-tools ${tools} (${how})`);
  const found = sourceVersion(source, how);
  if (found !== undefined && found !== tools) {
    throw new CannotRun(`TPM2TOOLS_SRC has version ${found} of tpm2-tools, ${tools} is installed (${how})`);
  }
  return { source, tools, swtpm: versionOf('/usr/bin/swtpm', /version ([^,\s]+)/) };
}

function sourceVersion(source: string, how: string): string | undefined {
  try {
    accessSync(join(suiteDirectory(source), 'helpers.sh'), constants.R_OK);
    // The newest entry; a work tree between two releases may head it otherwise.
    return /^#+ (\d+\.\d+(?:\.\d+)?)\b/m.exec(readFileSync(join(source, 'docs', 'CHANGELOG.md'), 'utf8'))?.[1];
  } catch (error) {
    throw new CannotRun(`TPM2TOOLS_SRC=${source} is not the source of tpm2-tools (${how})`, { cause: error });
  }
}

function versionOf(program: string, pattern: RegExp): string {
  // tpm2 knows this option only under its bare name.
  const text = execFileSync(basename(program), ['--version'], { env: { PATH: dirname(program) }, encoding: 'utf8' });
  const version = pattern.exec(text)?.[1];
  if (version === undefined) throw new CannotRun(`${program} --version does not tell its version`);
  return version;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function succeeds(program: string, ...args: string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
