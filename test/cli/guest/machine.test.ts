// What users are told of the machine that has a guest's TPM, and asked before they take it away.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { attachMachine, Peer, type PeerMachine } from '../../transport/peer.js';
import { RunningDaemon } from '../../support/running-daemon.js';
import { waitFor } from '../../support/wait-for.js';
import { tpmux, type Result } from '../command-line.js';

describe('a machine that has the TPM of a guest', function () {
  this.timeout(60_000);
  let daemon: RunningDaemon;
  let machine: PeerMachine;
  let control: string;

  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
    for (const name of ['held', 'free']) await daemon.ask('POST', '/v1/guests', { name });
    control = (await daemon.ask('GET', '/v1/guests/held')).body.control;
    machine = await attachMachine(control);
  });
  after(async () => {
    for (const peer of [machine.channel, machine.data]) peer.socket.destroy();
    await daemon.dispose();
  });
  const cli = (...args: string[]): Promise<Result> => tpmux(args, { TPMUX_RUN_DIR: join(daemon.root, 'run') });
  const stateOf = async (name: string): Promise<string> => (await daemon.ask('GET', `/v1/guests/${name}`)).body.state;

  it('is named by guest show and guest list', async () => {
    const program = new RegExp(`\\(${process.pid.toString()}\\)`);
    assert.match((await cli('guest', 'show', 'held')).out, new RegExp(`^machine +\\S.*${program.source}$`, 'm'));
    assert.match((await cli('guest', 'show', 'free')).out, /^machine +none$/m);
    const { out } = await cli('guest', 'list');
    assert.match(out, /^NAME .* MACHINE /m);
    assert.match(out, new RegExp(`^held .*${program.source}`, 'm'));
    const { machine: found } = JSON.parse((await cli('guest', 'show', 'held', '--json')).out) as { machine: { pid: number } | null };
    assert.equal(found?.pid, process.pid);
  });

  it('is named in the log when another one waits, once', async () => {
    const other = await Peer.to({ path: control });
    other.socket.write(Buffer.from('00000001', 'hex'));
    await waitFor(() => daemon.log.some((line) => /waits: a machine has the TPM to itself/.test(line)));
    const lines = daemon.log.filter((line) => /waits: a machine has the TPM to itself/.test(line));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', new RegExp(`process ${process.pid.toString()}`));
    assert.equal(other.received.length, 0);
    other.socket.destroy();
  });

  for (const action of ['stop', 'reset']) {
    it(`guest ${action} asks, and is refused where nobody can be asked`, async () => {
      const refused = await cli('guest', action, 'held');
      assert.equal(refused.code, 2);
      assert.match(
        refused.err,
        new RegExp(`\\(${process.pid.toString()}\\) has its TPM; it .*; it was not confirmed, and there is no terminal`),
      );
      assert.match(refused.err, /--yes/);
      assert.equal(await stateOf('held'), 'running');
      assert.equal((await cli('guest', action, 'free')).code, 0, 'no question without a machine');
      if (action === 'stop') assert.equal((await cli('guest', 'start', 'free')).code, 0);
    });
  }

  it('goes when the answer is yes', async () => {
    assert.equal((await cli('guest', 'reset', 'held', '--yes')).code, 0);
    assert.equal((await cli('guest', 'stop', 'held', '--yes')).code, 0);
    assert.equal(await stateOf('held'), 'off');
  });
});
