import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tcti, TctiError, TSS2_TCTI_RC } from '../../src/native/index.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { waitFor } from '../support/wait-for.js';

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex');
const RESPONSE_HEADER = '80010000001c00000000';

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;
const hasCode =
  (code: number, text: RegExp) =>
  (error: unknown): boolean =>
    error instanceof TctiError && error.code === code && error.layer === 'tcti' && text.test(error.message);

for (const tcp of [false, true]) {
  describe(`Tcti to swtpm over ${tcp ? 'TCP' : 'UNIX sockets'}`, () => {
    let swtpm: Swtpm;
    before(async () => {
      swtpm = await startSwtpm({ tcp });
    });
    after(() => swtpm.stop());

    it('carries a command and its response', async () => {
      const tcti = await Tcti.open(swtpm.tcti);
      const first = await tcti.transceive(getRandom);
      const second = await tcti.transceive(getRandom);
      assert.equal(first.subarray(0, 10).toString('hex'), RESPONSE_HEADER);
      assert.equal(first.length, 28);
      assert.notDeepEqual(first, second);
      await tcti.close();
    });

    it('sets the locality', async () => {
      const tcti = await Tcti.open(swtpm.tcti);
      await tcti.setLocality(0);
      await assert.rejects(tcti.setLocality(5), TypeError);
      assert.equal((await tcti.transceive(getRandom)).length, 28);
      await tcti.close();
    });

    it('leaks no descriptor over 200 open and close cycles', async () => {
      const before = openDescriptors();
      for (let i = 0; i < 200; i++) {
        const tcti = await Tcti.open(swtpm.tcti);
        if (i % 4 === 0) await tcti.transceive(getRandom);
        await tcti.close();
      }
      // The last thread may still be at its last instruction.
      await waitFor(
        () => openDescriptors() <= before,
        () => `${openDescriptors().toString()} descriptors, ${before.toString()} before`,
      );
    });

    it('survives a restart of the TPM with a new connection', async () => {
      const tcti = await Tcti.open(swtpm.tcti);
      await swtpm.kill();
      await assert.rejects(tcti.transceive(getRandom), hasCode(TSS2_TCTI_RC.IO_ERROR, /failed/));
      assert.equal(tcti.usable, false);
      await assert.rejects(tcti.transceive(getRandom), hasCode(TSS2_TCTI_RC.NO_CONNECTION, /has failed/));
      await tcti.close();
      await swtpm.restart();
      const again = await Tcti.open(swtpm.tcti);
      assert.equal((await again.transceive(getRandom)).length, 28);
      await again.close();
    });
  });
}

describe('Tcti arguments', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm();
  });
  after(() => swtpm.stop());

  it('names what is wrong with a configuration', async () => {
    await assert.rejects(Tcti.open('nosuchtcti:x'), hasCode(TSS2_TCTI_RC.NOT_SUPPORTED, /cannot open TCTI nosuchtcti:x/));
    await assert.rejects(Tcti.open('swtpm:nonsense=1'), hasCode(TSS2_TCTI_RC.BAD_VALUE, /nonsense/));
    await assert.rejects(Tcti.open('swtpm:path=/nonexistent/sock'), hasCode(TSS2_TCTI_RC.IO_ERROR, /\(ENOENT\)/));
    await assert.rejects(Tcti.open('device:/nonexistent/tpm0'), hasCode(TSS2_TCTI_RC.IO_ERROR, /\(ENOENT\)/));
    await assert.rejects(Tcti.open(''), TypeError);
  });

  it('writes to no file that is not a character device', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tpmux-tcti-'));
    const [file, link, fifo] = ['file', 'link', 'fifo'].map((name) => join(directory, name)) as [string, string, string];
    writeFileSync(file, 'contents');
    symlinkSync(file, link);
    execFileSync('mkfifo', [fifo]);
    try {
      for (const path of [file, link, fifo, directory]) {
        for (const name of ['device', 'libtss2-tcti-device.so', 'libtss2-tcti-device.so.0', 'pcap:device']) {
          await assert.rejects(
            Tcti.open(`${name}:${path}`),
            hasCode(TSS2_TCTI_RC.BAD_VALUE, /is not a character device/),
            `${name}:${path}`,
          );
        }
      }
      assert.equal(readFileSync(file, 'utf8'), 'contents');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('leaves TSS2_LOG as it was', async () => {
    const before = process.env['TSS2_LOG'];
    await Promise.allSettled([Tcti.open('swtpm:path=/nonexistent/a'), Tcti.open('swtpm:path=/nonexistent/b')]);
    assert.equal(process.env['TSS2_LOG'], before);
  });

  it('refuses a frame whose size disagrees with its header, and sends nothing', async () => {
    const tcti = await Tcti.open(swtpm.tcti);
    await assert.rejects(tcti.transceive(Buffer.from('80010000000b0000017b0010', 'hex')), /header says 11 bytes/);
    await assert.rejects(tcti.transceive(Buffer.alloc(9)), TypeError);
    await assert.rejects(tcti.transceive(Buffer.alloc(4097)), TypeError);
    assert.ok(tcti.usable);
    assert.equal((await tcti.transceive(getRandom)).length, 28);
    await tcti.close();
  });

  it('passes a TPM error through as a response', async () => {
    const tcti = await Tcti.open(swtpm.tcti);
    assert.equal((await tcti.transceive(Buffer.from('80010000000a0000ffff', 'hex'))).toString('hex'), '80010000000a00000143');
    await tcti.close();
  });

  it('refuses everything after close', async () => {
    const tcti = await Tcti.open(swtpm.tcti);
    await Promise.all([tcti.close(), tcti.close()]);
    assert.equal(tcti.usable, false);
    const closed = hasCode(TSS2_TCTI_RC.BAD_CONTEXT, /closed/);
    await assert.rejects(tcti.transceive(getRandom), closed);
    await assert.rejects(tcti.cancel(), closed);
    await assert.rejects(tcti.setLocality(0), closed);
  });
});
