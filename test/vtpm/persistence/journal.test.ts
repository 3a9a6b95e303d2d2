// What a vTPM does with its journal: a process that is killed at any moment leaves what was acknowledged, on the disk and in memory alike.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JournalRefused, JournalUnwritable } from '../../../src/store/state-journal.js';
import { VolatileJournal } from '../../../src/store/volatile-journal.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_NT, TPM_RH, TPM_ST, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, type Execute, frame, none, password, run } from '../../support/frames.js';
import { ClientSession } from '../../support/sessions.js';
import { MemoryRecords, openTestTpm, softwareKeys, type TestTpm, type TestTpmOptions } from '../../support/vtpm.js';

const { SHA256 } = TPM_ALG;
const GUEST = 'guest';
const COUNTER = 0x01500002;
const extend = frame(Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: SHA256, digest: Buffer.alloc(32, 3) }] });
const define = (nvIndex: number, attributes: number, dataSize = 8) =>
  frame(Commands.NV_DefineSpace, {
    authHandle: TPM_RH.OWNER,
    auth: none,
    publicInfo: {
      nvIndex,
      nameAlg: SHA256,
      attributes: (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA | attributes) >>> 0,
      authPolicy: none,
      dataSize,
    },
  });
const increment = frame(Commands.NV_Increment, { authHandle: COUNTER, nvIndex: COUNTER });
const readCounter = frame(Commands.NV_Read, { authHandle: COUNTER, nvIndex: COUNTER, size: 8, offset: 0 });

describe('the journal of a vTPM', () => {
  let directory: string;
  let count = 0;
  const key = randomBytes(32);
  const keys = softwareKeys();
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tpmux-volatile-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const journalAt = (path: string): VolatileJournal => new VolatileJournal({ path, guestId: GUEST, bootId: Buffer.alloc(16) }, key);
  const newPath = (): string => join(directory, (count++).toString());
  const open = (path: string, options: TestTpmOptions = {}): Promise<TestTpm> =>
    openTestTpm({ keys, journal: journalAt(path), ...options });
  /** Another process, which finds `path` and the records as they are at this moment. */
  const found = async (path: string, records: MemoryRecords): Promise<TestTpm> => {
    const left = newPath();
    if (existsSync(path)) copyFileSync(path, left);
    return open(left, { records: records.copy(), startup: false });
  };
  const resumed = async (path: string, records: MemoryRecords): Promise<TestTpm> => {
    const other = await found(path, records);
    assert.ok(await other.tpm.resume());
    return other;
  };

  it('begins with power and ends with it', async () => {
    const path = newPath();
    const guest = await open(path, { startup: false });
    assert.equal(existsSync(path), false);
    assert.equal(await guest.tpm.resume(), false);
    await guest.tpm.powerOn();
    const other = await resumed(path, guest.records);
    assert.equal(codeOf(await other.execute(extend)), TPM_RC.INITIALIZE, 'power without TPM2_Startup');
    await run(guest.execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    const started = await resumed(path, guest.records);
    assert.equal(codeOf(await started.execute(extend)), TPM_RC.SUCCESS);
    await guest.tpm.powerOff();
    assert.equal(existsSync(path), false);
  });

  it('costs nothing where nothing changes, and one record otherwise', async () => {
    const path = newPath();
    const { execute, tpm, records } = await open(path);
    const { size } = statSync(path);
    await run(execute, Commands.GetRandom, { bytesRequested: 8 });
    await run(execute, Commands.PCR_Read, { pcrSelectionIn: [{ hash: SHA256, pcrSelect: Buffer.from('00ff00', 'hex') }] });
    await run(execute, Commands.ReadClock, {});
    assert.equal(statSync(path).size, size);
    const { commits } = records;
    await execute(extend);
    const added = statSync(path).size - size;
    assert.ok(added > 0 && added < 1000, added.toString());
    assert.equal(records.commits, commits, 'no flush');
    assert.deepEqual((await resumed(path, records)).tpm.readPcr(SHA256, 10), tpm.readPcr(SHA256, 10));
  });

  it('is told of before anything of a command is in it or on the disk, and only then', async () => {
    const path = newPath();
    const { execute, tpm, records } = await open(path);
    await execute(define(COUNTER, TPM_NT.COUNTER << 4));
    /** What was there when it was told: size of the journal, commits. */
    const told = async (command: Buffer): Promise<(readonly [number, number])[]> => {
      const seen: (readonly [number, number])[] = [];
      await tpm.execute(command, 0, 7, () => seen.push([statSync(path).size, records.commits]));
      return seen;
    };
    const now = (): readonly [number, number] => [statSync(path).size, records.commits];
    assert.deepEqual(await told(frame(Commands.GetRandom, { bytesRequested: 8 })), []);
    for (const command of [extend, increment]) {
      const before = now();
      const seen = await told(command);
      assert.notDeepEqual(now(), before);
      assert.deepEqual(seen[0], before);
    }
    assert.deepEqual(await told(frame(Commands.PCR_Read, { pcrSelectionIn: [] })), []);
  });

  it('stays small whatever the guest does', async function () {
    this.timeout(120_000);
    const path = newPath();
    const { execute, tpm, records } = await open(path);
    let largest = 0;
    for (let i = 0; i < 6000; i++) {
      await execute(extend);
      if (i % 100 === 0) largest = Math.max(largest, statSync(path).size);
    }
    assert.ok(largest > 900_000, 'it was written anew at least once');
    assert.ok(largest < 1_100_000, largest.toString());
    assert.deepEqual((await resumed(path, records)).tpm.readPcr(SHA256, 10), tpm.readPcr(SHA256, 10));
  });

  it('what a command changes on the disk and in memory is there as a whole, or not at all', async () => {
    const path = newPath();
    const { execute, records } = await open(path);
    await execute(define(COUNTER, (TPM_NT.COUNTER << 4) | TPMA_NV.ORDERLY));
    const session = await ClientSession.start(execute);
    // The first increment writes the counter and what a session does.
    const before = { records: records.copy(), path: newPath() };
    copyFileSync(path, before.path);
    assert.equal(codeOf(await execute(increment)), 0);
    const after = { records: records.copy(), path };
    const sees = async (at: { path: string; records: MemoryRecords }): Promise<number> => {
      const other = await resumed(at.path, at.records);
      await run(other.execute, Commands.FlushContext, { flushHandle: session.handle });
      return codeOf(await other.execute(readCounter));
    };
    assert.equal(await sees(before), TPM_RC.NV_UNINITIALIZED);
    assert.equal(await sees(after), 0);
    // Killed between the record and the commit: as if the command had not come.
    assert.equal(await sees({ path, records: before.records }), TPM_RC.NV_UNINITIALIZED);
    // What is on the disk can never be ahead of the journal.
    await assert.rejects(async () => (await found(before.path, after.records)).tpm.resume(), /records at its end are missing/);
  });

  it('with a disk that is older than it is refused, and left alone', async () => {
    const path = newPath();
    const { execute, records } = await open(path);
    const old = records.copy();
    await execute(define(COUNTER, (TPM_NT.COUNTER << 4) | TPMA_NV.ORDERLY));
    await execute(increment);
    await execute(extend);
    const left = newPath();
    copyFileSync(path, left);
    const bytes = readFileSync(left);
    const other = await open(left, { records: old, startup: false });
    await assert.rejects(other.tpm.resume(), new JournalRefused('the state on the disk is older than what is in it'));
    assert.deepEqual(readFileSync(left), bytes);
    assert.equal(other.tpm.powered, false);
  });

  it('a command that the disk refuses leaves nothing in it', async () => {
    const path = newPath();
    const { execute, records, tpm } = await open(path);
    await execute(define(COUNTER, (TPM_NT.COUNTER << 4) | TPMA_NV.ORDERLY));
    await execute(extend);
    const digest = await sequenceOf(execute);
    const expected = await digest(execute);
    await run(execute, Commands.Shutdown, { shutdownType: TPM_SU.CLEAR });
    const pcr = tpm.readPcr(SHA256, 10);
    records.failure = new Error('the disk is full');
    for (const command of [increment, define(COUNTER + 1, 0), frame(Commands.Clear, { authHandle: TPM_RH.LOCKOUT })]) {
      assert.equal(codeOf(await execute(command)), TPM_RC.RETRY);
      const other = await resumed(path, records);
      assert.equal(codeOf(await other.execute(readCounter)), TPM_RC.NV_UNINITIALIZED);
      assert.deepEqual(other.tpm.readPcr(SHA256, 10), pcr);
      assert.equal(await digest(other.execute), expected);
    }
    records.failure = undefined;
    assert.equal(codeOf(await execute(increment)), TPM_RC.SUCCESS);
    const other = await resumed(path, records);
    assert.deepEqual(await other.execute(readCounter), await execute(readCounter));
  });

  it('goes on after a suspend, which makes orderly data and Clock durable', async () => {
    const path = newPath();
    const guest = await open(path);
    const { execute, records, tpm } = guest;
    await execute(define(COUNTER, (TPM_NT.COUNTER << 4) | TPMA_NV.ORDERLY));
    for (let i = 0; i < 5; i++) await execute(increment);
    await execute(extend);
    const value = (await execute(readCounter)).subarray(-8 - 5, -5).readBigUInt64BE();
    const pcr = tpm.readPcr(SHA256, 10);
    const { clock } = (await run(execute, Commands.ReadClock, {})).currentTime.clockInfo;
    await tpm.suspend();
    assert.equal(tpm.powered, false);
    assert.equal(codeOf(await execute(extend)), TPM_RC.FAILURE);
    const next = await resumed(path, records);
    assert.deepEqual(next.tpm.readPcr(SHA256, 10), pcr);
    assert.equal((await next.execute(readCounter)).subarray(-8 - 5, -5).readBigUInt64BE(), value);
    // Or the host ends too: as after a disorderly shutdown, and nothing has gone back.
    const rebooted = await open(newPath(), { records: records.copy() });
    assert.ok((await rebooted.execute(readCounter)).subarray(-8 - 5, -5).readBigUInt64BE() >= value);
    const later = (await run(rebooted.execute, Commands.ReadClock, {})).currentTime.clockInfo;
    assert.ok(later.clock >= clock);
  });

  it('keeps a D-RTM sequence and the established flag', async () => {
    const path = newPath();
    const { tpm, records } = await open(path);
    await tpm.hashStart();
    await tpm.hashData(Buffer.from('measured '));
    const other = await resumed(path, records);
    for (const one of [tpm, other.tpm]) {
      await one.hashData(Buffer.from('launch'));
      await one.hashEnd();
    }
    assert.deepEqual(other.tpm.readPcr(SHA256, 17), tpm.readPcr(SHA256, 17));
    assert.equal((await resumed(path, records)).tpm.established, true);
    assert.equal(await tpm.resetEstablished(4), true);
    assert.equal((await resumed(path, records)).tpm.established, false);
  });

  it('Time and Clock go on with the time that passed, and never back', async () => {
    const path = newPath();
    const { execute, records } = await open(path);
    const read = async (by: Execute) => (await run(by, Commands.ReadClock, {})).currentTime;
    const before = await read(execute);
    const began = performance.now();
    // Time that passes is what this is about.
    await new Promise((resolve) => setTimeout(resolve, 60));
    const slept = Math.floor(performance.now() - began) - 1;
    const other = await resumed(path, records);
    const after = await read(other.execute);
    assert.ok(after.time - before.time >= slept && after.clockInfo.clock - before.clockInfo.clock >= slept);
    const here = await read(execute);
    assert.ok(Number(here.time - before.time) <= performance.now() - began + 1000, 'both go on at the same rate');
    assert.ok(here.time >= after.time - 1n);
    assert.equal(after.clockInfo.safe, before.clockInfo.safe);
  });

  describe('ephemeral keys that were committed', () => {
    const ephemeral = async (execute: Execute) => run(execute, Commands.EC_Ephemeral, { curveID: TPM_ECC_CURVE.NIST_P256 });

    it('are not given out a second time after a crash', async () => {
      const path = newPath();
      const { execute, records } = await open(path);
      const { counter, Q } = await ephemeral(execute);
      const other = await resumed(path, records);
      const next = await ephemeral(other.execute);
      assert.equal(next.counter, counter + 1);
      assert.notDeepEqual(next.Q, Q);
    });

    it('of a saved state stand for other keys when it is put back, and none is open', async () => {
      const guest = await open(newPath());
      const { execute, tpm } = guest;
      const first = await ephemeral(execute);
      const [permanent, volatile] = [await tpm.getState('permanent'), await tpm.getState('volatile')];
      const second = await ephemeral(execute);
      for (const withPermanent of [true, false]) {
        await tpm.powerOff();
        await tpm.setState('volatile', volatile);
        if (withPermanent) await tpm.setState('permanent', permanent);
        await tpm.init(true);
        const again = await ephemeral(execute);
        assert.equal(again.counter, second.counter);
        assert.notDeepEqual(again.Q, second.Q, 'the same ephemeral key a second time gives the private key away');
        assert.notDeepEqual(again.Q, first.Q);
      }
    });

    it('of a saved Shutdown(STATE) too', async () => {
      const { execute, tpm } = await open(newPath(), { snapshots: true });
      await ephemeral(execute);
      await run(execute, Commands.Shutdown, { shutdownType: TPM_SU.STATE });
      const permanent = await tpm.getState('permanent');
      await tpm.powerOn();
      await run(execute, Commands.Startup, { startupType: TPM_SU.STATE });
      const second = await ephemeral(execute);
      await tpm.powerOff();
      await tpm.setState('permanent', permanent);
      await tpm.init(false);
      await run(execute, Commands.Startup, { startupType: TPM_SU.STATE });
      const again = await ephemeral(execute);
      assert.equal(again.counter, second.counter);
      assert.notDeepEqual(again.Q, second.Q);
    });
  });

  describe('on a full run directory', () => {
    let mount: string;
    let mounted = false;
    beforeEach(function () {
      mount = join(directory, 'run');
      mkdirSync(mount);
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tpmux-test', mount], { stdio: 'ignore' });
        mounted = true;
      } catch {
        // Mounting needs root.
        this.skip();
      }
    });
    afterEach(() => {
      if (mounted) execFileSync('umount', ['-l', mount]);
      mounted = false;
    });
    const fill = (): void => {
      for (const size of [65_536, 4096, 1]) {
        for (let i = 0; ; i++) {
          try {
            writeFileSync(join(mount, `ballast-${size.toString()}-${i.toString()}`), Buffer.alloc(size, 7));
          } catch {
            break;
          }
        }
      }
    };
    const empty = (): void => {
      execFileSync('sh', ['-c', 'rm -f ballast-*'], { cwd: mount });
    };

    it('commands that change something are answered RETRY and have no effect; the rest goes on; room heals', async () => {
      const path = join(mount, 'guest.journal');
      const { execute, tpm, records, failures } = await open(path);
      const digest = await sequenceOf(execute);
      fill();
      let acknowledged = 0;
      while (codeOf(await execute(extend)) === 0) acknowledged++;
      assert.ok(acknowledged < 100);
      const pcr = tpm.readPcr(SHA256, 10);
      for (let i = 0; i < 3; i++) {
        assert.equal(codeOf(await execute(extend)), TPM_RC.RETRY);
        assert.deepEqual(tpm.readPcr(SHA256, 10), pcr);
        await run(execute, Commands.GetRandom, { bytesRequested: 8 });
        await run(execute, Commands.PCR_Read, { pcrSelectionIn: [] });
      }
      assert.deepEqual((await resumed(path, records)).tpm.readPcr(SHA256, 10), pcr);
      // Nor does anything reach the disk that its journal does not know of. It takes more room than an extend.
      const { commits } = records;
      assert.equal(codeOf(await execute(define(COUNTER, TPMA_NV.ORDERLY, 1024))), TPM_RC.RETRY);
      assert.equal(records.commits, commits);
      assert.equal(failures.length, 1);
      empty();
      assert.equal(codeOf(await execute(extend)), TPM_RC.SUCCESS);
      assert.notDeepEqual(tpm.readPcr(SHA256, 10), pcr);
      const other = await resumed(path, records);
      assert.deepEqual(other.tpm.readPcr(SHA256, 10), tpm.readPcr(SHA256, 10));
      assert.equal(await digest(other.execute), await digest(execute));
    });

    it('a power cycle fails, and leaves nothing of the one before', async () => {
      const path = join(mount, 'guest.journal');
      const { tpm } = await open(path);
      fill();
      await assert.rejects(tpm.powerOn(), JournalUnwritable);
      assert.equal(tpm.powered, false);
      assert.equal(existsSync(path), false);
      empty();
      await tpm.powerOn();
      assert.equal(tpm.powered, true);
    });
  });
});

/** Starts a hash sequence; what comes back completes a copy of it somewhere. */
async function sequenceOf(execute: Execute): Promise<(by: Execute) => Promise<string>> {
  const { sequenceHandle } = await run(execute, Commands.HashSequenceStart, { auth: none, hashAlg: SHA256 });
  await run(execute, Commands.SequenceUpdate, { sequenceHandle, buffer: Buffer.from('some data') }, [password()]);
  return async (by) => {
    const { context } = await run(by, Commands.ContextSave, { saveHandle: sequenceHandle });
    const { loadedHandle } = await run(by, Commands.ContextLoad, { context });
    const request = { sequenceHandle: loadedHandle, buffer: none, hierarchy: TPM_RH.NULL };
    const { result, validation } = await run(by, Commands.SequenceComplete, request);
    assert.equal(validation.tag, TPM_ST.HASHCHECK);
    return result.toString('hex');
  };
}
