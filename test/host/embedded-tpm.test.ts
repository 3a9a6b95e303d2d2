import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedTpm, type EmbeddedTpmOptions } from '../../src/host/embedded-tpm.js';
import { endLeftover } from '../../src/host/leftover-process.js';
import type { Logger } from '../../src/logger.js';
import { Tcti } from '../../src/native/index.js';
import { waitFor } from '../support/wait-for.js';

const GET_RANDOM = Buffer.from('80010000000c0000017b0008', 'hex');

function alive(pid: number): boolean {
  return existsSync(`/proc/${pid.toString()}/exe`);
}

describe('the embedded software TPM', () => {
  let root: string;
  let lines: string[];
  let options: EmbeddedTpmOptions;
  let tpm: EmbeddedTpm | undefined;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-swtpm-'));
    lines = [];
    const write = ((message: string, fields?: object) => {
      lines.push(`${message} ${JSON.stringify(fields ?? {})}`);
    }) as unknown as Logger['info'];
    const log: Logger = { error: write, warn: write, info: write, debug: write };
    options = { stateDirectory: join(root, 'state'), runDirectory: join(root, 'run'), log };
  });
  afterEach(async () => {
    await tpm?.stop();
    tpm = undefined;
    await rm(root, { recursive: true });
  });

  const ask = async (): Promise<number> => {
    const tcti = await Tcti.open(tpm?.tcti ?? '');
    const answer = await tcti.transceive(GET_RANDOM, 5000);
    await tcti.close();
    return answer.readUInt32BE(6);
  };

  it('is started up and ready, and ends with its owner', async () => {
    tpm = await EmbeddedTpm.start(options);
    assert.equal(await ask(), 0);
    const { pid } = tpm;
    assert.ok(pid !== undefined);
    await tpm.stop();
    assert.equal(alive(pid), false);
    assert.equal(existsSync(join(root, 'state', 'swtpm.pid')), false);
  });

  it('is started again when it dies', async () => {
    tpm = await EmbeddedTpm.start(options);
    const { pid } = tpm;
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    await waitFor(async () => tpm?.pid !== pid && tpm?.pid !== undefined && (await ask().catch(() => -1)) === 0);
    assert.match(lines.join('\n'), /the software TPM ended.*SIGKILL/);
  });

  it('ends one that a killed daemon left on the same state', async () => {
    tpm = await EmbeddedTpm.start(options);
    const first = tpm.pid;
    assert.ok(first !== undefined);
    const second = await EmbeddedTpm.start(options);
    assert.ok(lines.some((line) => line.includes('a killed daemon left') && line.includes(first.toString())));
    assert.notEqual(second.pid, first);
    await tpm.stop();
    tpm = second;
  });

  it('does not end a process that only has the number of its own', async () => {
    const other = spawn('sleep', ['30']);
    assert.ok(other.pid !== undefined);
    const file = join(root, 'pid');
    for (const content of [other.pid.toString(), '1', '-1', '0', '', 'x', process.pid.toString()]) {
      await writeFile(file, content);
      assert.equal(await endLeftover(file, ['--tpmstate', 'dir=/x']), undefined);
    }
    assert.ok(alive(other.pid));
    other.kill();
  });

  it('says what is missing', async () => {
    await assert.rejects(
      EmbeddedTpm.start({ ...options, program: 'swtpm-that-is-not-there' }),
      /swtpm is not installed \(install the package swtpm/,
    );
    await assert.rejects(EmbeddedTpm.start({ ...options, program: 'false' }), /it ended with status 1/);
  });

  it('notes its process for the next daemon', async () => {
    tpm = await EmbeddedTpm.start(options);
    assert.equal(Number(await readFile(join(root, 'state', 'swtpm.pid'), 'utf8')), tpm.pid);
  });
});
