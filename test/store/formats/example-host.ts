// A whole host as it is stored: the state directory of a daemon with an embedded TPM, whose state keys are sealed to a PCR.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Config } from '../../../src/config/config.js';
import { EXAMPLE } from './example.js';

const run = promisify(execFile);
const AK = '0x81010001';
const NV = '0x1500001';

/** Settings that the example was made with. PCR 16 of the embedded TPM is zero whenever it starts. */
export const HOST_SETTINGS: Partial<Config> = { sealTo: { bank: 'sha256', pcrs: [16] } };
/** The guest on the example host. */
export const HOST_GUEST = 'example';

/** Its policy. Keys of the endorsement hierarchy, such as its attestation key, cannot leave the chip. */
export const HOST_POLICY = 'version: 1\npresent: {0-7: certified}\nkeys: {anchored: [endorsement]}\n';

/** tpm2-tools on the guest's socket, in a directory of their own. */
async function withTools(tcti: string, use: (tool: (...line: string[]) => Promise<Buffer>, at: (name: string) => string) => Promise<void>) {
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-example-tools-'));
  const tool = async (name: string, ...args: string[]): Promise<Buffer> => {
    const options = { env: { ...process.env, TPM2TOOLS_TCTI: tcti }, encoding: 'buffer', cwd: directory } as const;
    return (await run(`tpm2_${name}`, args, options)).stdout;
  };
  try {
    await use(tool, (name) => join(directory, name));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Fills a new guest. Its attestation key's public part is written to `akFile`. */
export async function fillGuest(tcti: string, akFile: string): Promise<void> {
  await withTools(tcti, async (tool, at) => {
    await tool('startup', '-c');
    await writeFile(at('data'), EXAMPLE.nvData);
    await tool('nvdefine', NV, '-C', 'o', '-s', EXAMPLE.nvData.length.toString(), '-a', 'ownerread|ownerwrite');
    await tool('nvwrite', NV, '-C', 'o', '-i', at('data'));
    await tool('createek', '-G', 'ecc', '-c', at('ek.ctx'));
    await tool('createak', '-C', at('ek.ctx'), '-G', 'ecc', '-g', 'sha256', '-s', 'ecdsa', '-c', at('ak.ctx'), '-u', at('ak.pub'));
    await tool('flushcontext', '-t');
    await tool('evictcontrol', '-C', 'o', '-c', at('ak.ctx'), AK);
    await tool('flushcontext', '-t');
    await tool('readpublic', '-c', AK, '-f', 'pem', '-o', akFile);
    await tool('shutdown', '-c');
  });
}

/** Checks that the guest has all that {@link fillGuest} put into it, and that its key still signs. */
export async function checkGuest(tcti: string, akFile: string): Promise<void> {
  await withTools(tcti, async (tool, at) => {
    await tool('startup', '-c');
    assert.deepEqual(await tool('nvread', NV, '-C', 'o'), EXAMPLE.nvData);
    await tool('readpublic', '-c', AK, '-f', 'pem', '-o', at('ak.pem'));
    assert.equal(await readFile(at('ak.pem'), 'utf8'), await readFile(akFile, 'utf8'));
    await tool('quote', '-c', AK, '-l', 'sha256:0,1', '-q', '0badcafe', '-m', at('m'), '-s', at('s'), '-o', at('p'));
    await tool('checkquote', '-u', akFile, '-m', at('m'), '-s', at('s'), '-f', at('p'), '-q', '0badcafe');
  });
}
