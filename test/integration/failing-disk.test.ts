// The disk of the daemon fails under the guests: nothing acknowledged is lost, no answer is wrong, and service resumes by itself.
import assert from 'node:assert/strict';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { TPM_ALG, TPM_RH, TPM_SU, TPMA_NV } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { type Running, startServing, tpmux } from '../cli/command-line.js';
import { buildShim, FaultControl, faultEnvironment } from '../fault/shim.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { codeOf, type Execute, frame, none, password, run } from '../support/frames.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';

const ENOSPC = 28;
const EIO = 5;
const INDEX = 0x01500000;
const ON_INDEX = { authHandle: TPM_RH.OWNER, nvIndex: INDEX };
const NAMES = ['alice', 'bob'];

describe('a daemon whose disk fails', function () {
  this.timeout(120_000);
  let chip: Swtpm;
  let directory: string;
  let fault: FaultControl;
  let daemon: Running;
  let shimEnvironment: Record<string, string>;
  const exchanges = new Map<string, Exchange>();
  const counts = new Map<string, bigint>();

  const runDir = (): string => path.join(directory, 'run');
  const on =
    (name: string): Execute =>
    (bytes) =>
      exchanges.get(name)!.send(bytes, responseSize);
  const count = async (name: string): Promise<bigint> =>
    (await run(on(name), Commands.NV_Read, { ...ON_INDEX, size: 8, offset: 0 })).data.readBigUInt64BE();
  const increment = frame(Commands.NV_Increment, ON_INDEX, [password('')]);

  const start = async (environment: Record<string, string>): Promise<void> => {
    const args = ['serve', '--tcti', chip.tcti, '--state-dir', path.join(directory, 'state'), '--run-dir', runDir()];
    daemon = await startServing(args, environment);
  };
  const connect = async (name: string): Promise<void> => {
    exchanges.set(name, new Exchange({ path: path.join(runDir(), 'guests', name, 'tpm.sock') }));
    await run(on(name), Commands.Startup, { startupType: TPM_SU.CLEAR });
  };

  before(async () => {
    chip = await startSwtpm();
    directory = await realpath(await mkdtemp(path.join(tmpdir(), 'tpmux-disk-')));
    fault = FaultControl.create(path.join(directory, 'control'));
    shimEnvironment = faultEnvironment(await buildShim(directory), path.join(directory, 'state'), path.join(directory, 'control'));
    await start(shimEnvironment);
    for (const name of NAMES) {
      const created = await tpmux(['guest', 'create', name, '--run-dir', runDir()]);
      assert.equal(created.code, 0, created.err);
      await connect(name);
      const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | (1 << 4);
      const publicInfo = { nvIndex: INDEX, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 8 } as const;
      await run(on(name), Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
      await run(on(name), Commands.NV_Increment, ON_INDEX);
      counts.set(name, await count(name));
    }
  });
  after(async () => {
    for (const exchange of exchanges.values()) exchange.close();
    daemon.child.kill('SIGKILL');
    await daemon.result;
    await chip.stop();
    fault.close();
    await rm(directory, { recursive: true });
  });

  /** One increment for each guest, and what is acknowledged of it. */
  const incrementAll = async (): Promise<number[]> =>
    Promise.all(
      NAMES.map(async (name) => {
        const code = codeOf(await on(name)(increment));
        if (code === TPM_RC.SUCCESS) counts.set(name, counts.get(name)! + 1n);
        else assert.equal(code, TPM_RC.RETRY);
        return code;
      }),
    );
  const allThere = async (): Promise<void> => {
    for (const name of NAMES) assert.equal(await count(name), counts.get(name), name);
  };

  it('does not let the guests notice one failure, whichever call it is', async () => {
    for (const error of [ENOSPC, EIO]) {
      for (let nth = 1; ; nth++) {
        fault.arm(nth, error);
        assert.deepEqual(await incrementAll(), [TPM_RC.SUCCESS, TPM_RC.SUCCESS]);
        if (fault.failed === 0) break;
      }
    }
    fault.disarm();
    await allThere();
  });

  it('answers RETRY while the failure lasts, goes on with what is volatile, says so in status, and recovers by itself', async () => {
    fault.arm(1, ENOSPC, true);
    assert.deepEqual(await incrementAll(), [TPM_RC.RETRY, TPM_RC.RETRY]);
    await allThere();
    await run(on('alice'), Commands.GetRandom, { bytesRequested: 8 });
    const status = await tpmux(['status', '--run-dir', runDir()]);
    assert.match(status.out, /CANNOT BE WRITTEN: /);
    fault.disarm();
    assert.deepEqual(await incrementAll(), [TPM_RC.SUCCESS, TPM_RC.SUCCESS]);
    await allThere();
    assert.doesNotMatch((await tpmux(['status', '--run-dir', runDir()])).out, /CANNOT BE WRITTEN/);
    assert.match(daemon.err(), /the store can be written again/);
  });

  it('has lost nothing when it is killed after that', async () => {
    daemon.child.kill('SIGKILL');
    await daemon.result;
    for (const exchange of exchanges.values()) exchange.close();
    await start({});
    for (const name of NAMES) {
      // What is volatile may have survived.
      exchanges.set(name, new Exchange({ path: path.join(runDir(), 'guests', name, 'tpm.sock') }));
      await on(name)(frame(Commands.Startup, { startupType: TPM_SU.CLEAR }));
    }
    await allThere();
  });
});
