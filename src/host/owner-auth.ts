// The authorization value of the chip's owner hierarchy, which an operator may have set.
import { readFile } from 'node:fs/promises';
import { EXIT, Failure, reasonOf } from '../failure.js';
import type { Config } from '../config/config.js';

const MAX_SIZE = 64;

/** The value in the file that `hardware.owner-auth-file` names, without a line break at its end; empty without that setting. */
export async function readOwnerAuth({ ownerAuthFile: path }: Pick<Config, 'ownerAuthFile'>): Promise<Buffer> {
  if (path === undefined) return Buffer.alloc(0);
  const failure = (why: string): Failure =>
    new Failure({
      code: 'bad_config',
      what: `reading the owner authorization ${path}`,
      why,
      hint: 'name a file with the value and nothing else',
      exit: EXIT.usage,
    });
  const content = await readFile(path).catch((error: unknown) => {
    throw failure(reasonOf(error));
  });
  const size = content.at(-1) === 0x0a ? content.length - 1 : content.length;
  if (size > MAX_SIZE) throw failure(`it has more than ${MAX_SIZE.toString()} bytes`);
  return content.subarray(0, size);
}
