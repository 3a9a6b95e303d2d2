// What guests have in memory when a daemon ends, and where the next one finds it.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readAudit } from '../../src/host/audit-log.js';
import { auditLogPath, volatilePath } from '../../src/config/paths.js';
import { TPM_ALG, TPM_SU } from '../../src/tpm/constants/index.js';
import { FlushContext, PCR_Extend, PCR_Read, Startup } from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { tpmux } from '../cli/command-line.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { codeOf, type Execute, frame, run } from '../support/frames.js';
import { ClientSession } from '../support/sessions.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { RunningDaemon } from '../support/running-daemon.js';

const startup = frame(Startup, { startupType: TPM_SU.CLEAR });
const VERSION_AT = 8;

describe('volatile state over the end of a daemon', function () {
  this.timeout(60_000);
  let swtpm: Swtpm;
  let daemon: RunningDaemon;
  before(async () => {
    swtpm = await startSwtpm();
    daemon = await RunningDaemon.create({ embeddedTpm: false, tcti: swtpm.tcti });
    await daemon.start();
    for (const name of ['a', 'b']) ids.set(name, (await daemon.ask('POST', '/v1/guests', { name })).body.id);
  });
  after(async () => {
    await daemon.dispose();
    await swtpm.stop();
  });

  /** Sends commands to a guest, over a connection of their own. */
  const withGuest = async <T>(name: string, use: (execute: Execute) => Promise<T>): Promise<T> => {
    const exchange = new Exchange({ path: join(daemon.config.runDir, 'guests', name, 'tpm.sock') });
    try {
      return await use((bytes) => exchange.send(bytes, responseSize));
    } finally {
      exchange.close();
    }
  };
  const send = (name: string, bytes: Buffer): Promise<number> => withGuest(name, async (execute) => codeOf(await execute(bytes)));
  const extend = (name: string): Promise<unknown> => {
    const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 3) }];
    return withGuest(name, (execute) => run(execute, PCR_Extend, { pcrHandle: 10, digests: [...digests] as never }));
  };
  const pcr = (name: string): Promise<string> =>
    withGuest(name, async (execute) => {
      const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from('000400', 'hex') }];
      return (await run(execute, PCR_Read, { pcrSelectionIn })).pcrValues[0]?.toString('hex') ?? '';
    });
  const ids = new Map<string, string>();
  const journal = (name: string): string => join(volatilePath(daemon.config.runDir), `${ids.get(name) ?? assert.fail()}.journal`);
  const events = async (event: string): Promise<readonly { guest?: string | undefined; detail?: string | undefined }[]> =>
    (await readAudit(auditLogPath(daemon.config.stateDir))).entries.filter((entry) => entry.event === event);
  /** Guest `a` after a restart during which `change` was made to its journal. */
  const restartWith = async (change: (path: string) => void): Promise<{ state: string; reason: string | null; path: string }> => {
    const path = journal('a');
    await daemon.stop();
    change(path);
    await daemon.start();
    const { body } = await daemon.ask('GET', '/v1/guests/a');
    return { state: body.state, reason: body.reason, path };
  };
  const started = async (): Promise<void> => {
    for (const name of ['a', 'b']) {
      const code = await send(name, startup);
      assert.ok(code === TPM_RC.SUCCESS || code === TPM_RC.INITIALIZE);
      await extend(name);
    }
  };

  it('survives an orderly end: no startup, the same PCRs and sessions', async () => {
    await started();
    const before = [await pcr('a'), await pcr('b')];
    const session = await withGuest('a', (execute) => ClientSession.start(execute));
    await daemon.stop();
    assert.equal(readdirSync(volatilePath(daemon.config.runDir)).length, 2);
    await daemon.start();
    assert.equal(await send('a', startup), TPM_RC.INITIALIZE);
    assert.deepEqual([await pcr('a'), await pcr('b')], before);
    await withGuest('a', (execute) => run(execute, FlushContext, { flushHandle: session.handle }));
    assert.equal(daemon.log.filter((line) => line.startsWith('info guest resumed')).length, 2);
  });

  it('waits for the chip', async () => {
    await started();
    const before = await pcr('a');
    await swtpm.kill();
    await daemon.stop();
    const bytes = readFileSync(journal('a'));
    await assert.rejects(daemon.start());
    assert.deepEqual(readFileSync(journal('a')), bytes);
    await swtpm.restart();
    await daemon.start();
    assert.equal(await pcr('a'), before);
  });

  it('whose last record is not complete goes on without that command', async () => {
    await started();
    const before = await pcr('a');
    await extend('a');
    const { state } = await restartWith((path) => {
      truncateSync(path, readFileSync(path).length - 1);
    });
    assert.equal(state, 'running');
    assert.equal(await pcr('a'), before);
  });

  it('does not survive stop, nor a reset', async () => {
    await started();
    const path = journal('a');
    assert.equal((await daemon.ask('POST', '/v1/guests/a/reset')).status, 200);
    assert.equal(await send('a', startup), TPM_RC.SUCCESS);
    assert.equal((await daemon.ask('POST', '/v1/guests/a/stop')).status, 200);
    assert.equal(existsSync(path), false);
    assert.equal((await daemon.ask('POST', '/v1/guests/a/start')).status, 200);
    assert.equal(await send('a', startup), TPM_RC.SUCCESS);
  });

  const damages: readonly [what: string, change: (path: string) => void, reason: RegExp][] = [
    [
      'was edited',
      (path) => {
        const bytes = readFileSync(path);
        bytes[200] = (bytes[200] ?? 0) ^ 1;
        writeFileSync(path, bytes);
      },
      /it is damaged at byte/,
    ],
    [
      'is of a newer format',
      (path) => {
        const bytes = readFileSync(path);
        bytes.writeUInt16BE(7, VERSION_AT);
        writeFileSync(path, bytes);
      },
      /it has format version 7/,
    ],
    [
      'was cut off at the beginning',
      (path) => {
        truncateSync(path, 60);
      },
      /it is cut off/,
    ],
    [
      "is another guest's",
      (path) => {
        const other = readdirSync(volatilePath(daemon.config.runDir)).find((name) => !path.endsWith(name));
        writeFileSync(path, readFileSync(join(volatilePath(daemon.config.runDir), other ?? '')));
      },
      /it belongs to guest/,
    ],
  ];
  for (const [what, change, why] of damages) {
    it(`that ${what} is refused; the other guest runs; reset is the way out`, async () => {
      await started();
      const before = await pcr('b');
      let changed = Buffer.alloc(0);
      const { state, reason, path } = await restartWith((file) => {
        change(file);
        changed = readFileSync(file);
      });
      assert.equal(state, 'failed');
      assert.match(reason ?? '', why);
      assert.match(reason ?? '', /'tpmux guest reset a' starts it as after a power cycle/);
      assert.match((await events('guest-refused')).at(-1)?.detail ?? '', why);
      assert.equal(await pcr('b'), before);
      // Another start does not help, and nothing is lost by it.
      const start = await daemon.ask('POST', '/v1/guests/a/start');
      assert.deepEqual([start.body.error.code, start.body.error.exit], ['volatile_state_refused', 3]);
      assert.deepEqual(readFileSync(path), changed);
      const reset = await tpmux(['guest', 'reset', 'a', '--run-dir', daemon.config.runDir]);
      assert.equal(reset.code, 0, reset.err);
      assert.equal((await events('guest-reset')).at(-1)?.guest, 'a');
      assert.equal(await send('a', startup), TPM_RC.SUCCESS);
      assert.equal(await pcr('b'), before);
    });
  }

  it('of a guest that is removed goes too', async () => {
    const path = journal('b');
    assert.ok(existsSync(path));
    assert.ok((await daemon.ask('DELETE', '/v1/guests/b')).status < 300);
    assert.equal(existsSync(path), false);
  });
});
