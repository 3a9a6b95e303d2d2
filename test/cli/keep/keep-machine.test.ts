// A machine keeps its TPM over the end of the daemon: its data connection, its lock, and what it does on the control connection.
import assert from 'node:assert/strict';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SU } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { KeptDaemon } from '../../support/kept-daemon.js';
import { eccTemplate } from '../../support/templates.js';
import { attachMachine, executeOver, Peer } from '../../transport/peer.js';
import { tpmux } from '../command-line.js';

const createPrimary = frame(Commands.CreatePrimary, {
  primaryHandle: TPM_RH.OWNER,
  inSensitive: { userAuth: none, data: none },
  inPublic: eccTemplate(),
  outsideInfo: none,
  creationPCR: [],
});

const extend = (execute: Execute, byte: number): Promise<unknown> =>
  run(execute, Commands.PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, byte) }] });

async function pcr16(execute: Execute): Promise<string> {
  const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([0, 0, 1]) }];
  return (await run(execute, Commands.PCR_Read, { pcrSelectionIn })).pcrValues[0]?.toString('hex') ?? '';
}

describe('a machine under tpmux keep', function () {
  this.timeout(120_000);
  let daemon: KeptDaemon;
  const peers: Peer[] = [];
  let guests = 0;

  before(async () => {
    daemon = await KeptDaemon.start();
  });
  after(async () => {
    await (daemon as KeptDaemon | undefined)?.dispose();
  });
  afterEach(function () {
    for (const each of peers.splice(0)) each.socket.destroy();
    if (this.currentTest?.state === 'failed') console.error(daemon.log.split('\n').slice(-30).join('\n'));
  });

  const guest = async (): Promise<string> => {
    const name = `g${(++guests).toString()}`;
    await daemon.create(name);
    return name;
  };
  const control = async (name: string): Promise<Peer> => {
    const peer = await Peer.to({ path: `${daemon.socket(name)}.ctrl` });
    peers.push(peer);
    return peer;
  };
  const started = async (name: string): Promise<Execute> => {
    const peer = await Peer.to({ path: daemon.socket(name) });
    peers.push(peer);
    const execute = executeOver(peer);
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    return execute;
  };
  const machine = async (name: string): Promise<{ channel: Peer; execute: Execute }> => {
    const { channel, data } = await attachMachine(`${daemon.socket(name)}.ctrl`);
    peers.push(channel, data);
    return { channel, execute: executeOver(data) };
  };
  const view = async (name: string): Promise<Record<string, unknown>> => {
    const { out, err } = await tpmux(['guest', 'show', name, '--json', '--run-dir', daemon.runDir]);
    assert.equal(err, '');
    return JSON.parse(out) as Record<string, unknown>;
  };

  /** Resolves when the TPM is as after the end of the machine that had it: only then another control connection is served. */
  const afterMachine = async (name: string): Promise<void> => {
    const next = await control(name);
    assert.equal(await next.ask('0000000f', 8), '0000000000000000');
    next.socket.destroy();
  };

  it('keeps a machine its TPM: data connection, lock, locality and buffer size', async () => {
    const name = await guest();
    const { channel, execute } = await machine(name);
    assert.equal(await channel.ask('0000000e', 4), '00000000');
    assert.equal(await channel.ask('0000001100000b00', 16), `0000000000000b0000000af800001000`);
    assert.equal(await channel.ask('0000000200000000', 4), '00000000');
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await channel.ask('0000000502', 4), '00000000');
    // Which locality 2 may, and 0 may not.
    await run(execute, Commands.PCR_Reset, { pcrHandle: 21 });
    for (const how of ['kill', 'replace', 'kill'] as const) {
      await daemon.over(() => {
        daemon[how]();
      });
      await run(execute, Commands.PCR_Reset, { pcrHandle: 21 });
      // Padding of SET_LOCALITY comes with what follows.
      assert.equal(await channel.ask('0000000000001100000000'.slice(0, 6) + '0000001100000000', 16), '0000000000000b0000000af800001000');
      const other = await control(name);
      other.socket.write(Buffer.from('0000000f', 'hex'));
      assert.equal(await channel.ask('0000000502', 4), '00000000');
      assert.equal(other.received.length, 0, 'another control connection waits');
      other.socket.destroy();
    }
    await extend(execute, 5);
    channel.socket.destroy();
    await afterMachine(name);
    const next = await started(name);
    assert.equal(await pcr16(next), '00'.repeat(32));
  });

  it('lets a machine cancel its command while the daemon waits for that to end', async () => {
    const name = await guest();
    const { channel, execute } = await machine(name);
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    daemon.holds.create = true;
    const held = daemon.relay.held;
    const answer = execute(createPrimary);
    await daemon.until(() => daemon.relay.held > held);
    await daemon.over(async () => {
      const ends = (): number => daemon.log.split(' shutting down').length;
      const before = ends();
      daemon.replace();
      await daemon.until(() => ends() > before);
      assert.equal(await channel.ask('00000009', 4), '00000000');
      assert.equal(codeOf(await answer), TPM_RC.CANCELED);
      daemon.holds.create = false;
      daemon.relay.release();
    });
    assert.equal(codeOf(await execute(createPrimary)), TPM_RC.SUCCESS);
  });

  it('power-cycles the TPM of a machine that ended while no daemon was there', async () => {
    const name = await guest();
    const { channel, execute } = await machine(name);
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    await extend(execute, 5);
    await daemon.over(async () => {
      await daemon.killed();
      for (const each of peers.splice(0)) each.socket.destroy();
      assert.ok(channel.socket.destroyed);
    });
    await afterMachine(name);
    assert.equal(await pcr16(await started(name)), '00'.repeat(32));
  });

  it('keeps a TPM off that the machine has turned off', async () => {
    const name = await guest();
    const { channel } = await machine(name);
    assert.equal(await channel.ask('0000000e', 4), '00000000');
    await daemon.over(() => {
      daemon.kill();
    });
    assert.equal((await view(name))['powered'], false);
    assert.equal(await channel.ask('0000000200000000', 4), '00000000');
    assert.equal((await view(name))['powered'], true);
  });
});
