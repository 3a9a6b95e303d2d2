// Reads a whole database once in a process of its own. LMDB trusts its file: pages that are missing or point nowhere end the
// process that reads them, and that must not be the daemon.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const READ_EVERYTHING = `
const { open } = require(process.argv[1]);
let db;
try {
  db = open({ path: process.argv[2], encoding: 'binary', readOnly: true, noSubdir: false });
  for (const { value } of db.getRange()) if (value.length > 0) value[value.length - 1];
} catch (error) {
  process.stderr.write(String(error && error.message));
  process.exit(9);
}
db.close().then(() => process.exit(0));
`;

/** Undefined if every record can be read, else why not. */
export async function databaseDamage(directory: string): Promise<string | undefined> {
  const lmdb = createRequire(import.meta.url).resolve('lmdb');
  const child = spawn(process.execPath, ['-e', READ_EVERYTHING, lmdb, directory], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(0, 500);
  });
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...end) => {
      resolve(end);
    });
  });
  if (status === 0) return undefined;
  return signal === null
    ? text.trim() || `reading it ended with status ${String(status)}`
    : `reading it ended with ${signal}: pages are missing or overwritten`;
}
