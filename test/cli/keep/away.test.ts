// What a machine is answered while no daemon is there, and that no answer is another command's.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SU } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { KeptDaemon } from '../../support/kept-daemon.js';
import { eccTemplate } from '../../support/templates.js';
import { settled } from '../../support/wait-for.js';
import { attachMachine, executeOver, Peer } from '../../transport/peer.js';

const CANCEL = '00000009';
const extend = frame(Commands.PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });
const createPrimary = frame(Commands.CreatePrimary, {
  primaryHandle: TPM_RH.OWNER,
  inSensitive: { userAuth: none, data: none },
  inPublic: eccTemplate(),
  outsideInfo: none,
  creationPCR: [],
});

async function pcr16(execute: Execute): Promise<string> {
  const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([0, 0, 1]) }];
  return (await run(execute, Commands.PCR_Read, { pcrSelectionIn })).pcrValues[0]?.toString('hex') ?? '';
}

describe('a machine while no daemon is there', function () {
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
  afterEach(() => daemon.back());

  /** A machine whose TPM was started. */
  const machine = async (): Promise<{ name: string; channel: Peer; data: Peer; execute: Execute }> => {
    const name = `g${(++guests).toString()}`;
    await daemon.create(name);
    const { channel, data } = await attachMachine(`${daemon.socket(name)}.ctrl`);
    peers.push(channel, data);
    const execute = executeOver(data);
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    return { name, channel, data, execute };
  };

  it('is told to send its commands again, which have had no effect', async () => {
    const { execute } = await machine();
    const before = await pcr16(execute);
    await daemon.away();
    for (let i = 0; i < 4; i++) assert.equal(codeOf(await execute(extend)), TPM_RC.RETRY);
    await daemon.back();
    assert.equal(await pcr16(execute), before);
    assert.equal(codeOf(await execute(extend)), TPM_RC.SUCCESS);
    assert.notEqual(await pcr16(execute), before);
  });

  it('can cancel a command, which is answered first', async () => {
    const { channel, data, execute } = await machine();
    await daemon.away();
    for (let i = 0; i < 3; i++) {
      data.socket.write(extend);
      assert.equal(await channel.ask(CANCEL, 4), '00000000');
      await settled();
      assert.equal(data.received.length, 10, 'the answer is there, and nothing else');
      assert.equal(codeOf(await data.take(10)), TPM_RC.CANCELED);
      // One that has come too late does nothing to the next command.
      assert.equal(await channel.ask(CANCEL, 4), '00000000');
      assert.equal(codeOf(await execute(extend)), TPM_RC.RETRY);
    }
    await daemon.back();
    assert.equal(await pcr16(execute), '00'.repeat(32));
  });

  it('is answered what needs no TPM, and the rest by the next daemon', async () => {
    const { channel, execute } = await machine();
    await daemon.away();
    assert.equal(await channel.ask('00000001', 8), '0000000000017fff');
    assert.equal(await channel.ask('00000004', 8), '0000000000000000');
    assert.equal(await channel.ask('0000001100000000', 16), '000000000000100000000af800001000');
    assert.equal(await channel.ask('0000000505000000', 4), '0000003d');
    assert.equal(await channel.ask('0000000502', 4), '00000000');
    // Padding of SET_LOCALITY comes with what follows.
    channel.socket.write(Buffer.from('0000000000000b03000000', 'hex'));
    assert.equal(codeOf(await execute(extend)), TPM_RC.RETRY);
    assert.equal(channel.received.length, 0);
    await daemon.back();
    assert.equal((await channel.take(4)).toString('hex'), '00000000');
    // Which locality 2 may, and 0 may not.
    await run(execute, Commands.PCR_Reset, { pcrHandle: 21 });
    assert.equal(await channel.ask('0000000f', 8), '0000000000000000');
  });

  it('is told to send a command again that the daemon had begun, without effect', async () => {
    const { execute } = await machine();
    daemon.holds.create = true;
    const held = daemon.relay.held;
    const answer = execute(createPrimary);
    await daemon.until(() => daemon.relay.held > held);
    daemon.holds.create = false;
    await daemon.away();
    assert.equal(codeOf(await answer), TPM_RC.RETRY);
    await daemon.back();
    assert.equal(codeOf(await execute(createPrimary)), TPM_RC.SUCCESS);
  });

  it('may end, and its TPM is power-cycled', async () => {
    const { name, channel, data, execute } = await machine();
    await run(execute, Commands.PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });
    await daemon.away();
    assert.equal(await channel.ask('00000003', 4), '00000000');
    channel.socket.destroy();
    data.socket.destroy();
    await daemon.back();
    const next = await attachMachine(`${daemon.socket(name)}.ctrl`);
    peers.push(next.channel, next.data);
    const nextExecute = executeOver(next.data);
    await run(nextExecute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(await pcr16(nextExecute), '00'.repeat(32));
  });

  it('is waited for by no daemon: the next is tried at once, as long as the machine wants its TPM', async () => {
    const { execute } = await machine();
    await daemon.away();
    const attempts = (): number => daemon.log.split('the daemon ended').length;
    const first = attempts();
    let commands = 0;
    for (; attempts() < first + 8; commands++) assert.equal(codeOf(await execute(extend)), TPM_RC.RETRY);
    // Two in a second. Without a machine that waits the eighth attempt comes after 25 s.
    assert.ok(commands < 25, commands.toString());
    const back = daemon.back();
    let code: number = TPM_RC.RETRY;
    while (code === TPM_RC.RETRY) code = codeOf(await execute(extend));
    assert.equal(code, TPM_RC.SUCCESS);
    await back;
  });

  it('gets no answer to another command, whenever daemons come and go and commands are canceled', async () => {
    const machines = await Promise.all(Array.from({ length: 3 }, () => machine()));
    let ended = false;
    const count = { answered: 0, canceled: 0, retried: 0 };
    const work = machines.map(async ({ channel, data }, index) => {
      for (let round = 0; !ended; round++) {
        // The size that comes back tells whether it is the answer to this command.
        const size = 1 + ((index * 7 + round) % 16);
        data.socket.write(frame(Commands.GetRandom, { bytesRequested: size }));
        if (round % 3 === 0) {
          assert.equal(await channel.ask(CANCEL, 4), '00000000');
          await settled();
          assert.ok(data.received.length > 0, 'the answer comes before the result of CANCEL');
        }
        const header = await data.take(10);
        const code = codeOf(header);
        if (code === TPM_RC.SUCCESS) {
          const rest = await data.take(header.readUInt32BE(2) - 10);
          assert.equal(rest.readUInt16BE(0), size);
          count.answered++;
        } else if (code === TPM_RC.CANCELED) count.canceled++;
        else {
          assert.equal(code, TPM_RC.RETRY);
          count.retried++;
        }
        await settled();
        assert.equal(data.received.length + channel.received.length, 0);
      }
    });
    for (let i = 0; i < 9 || count.answered < 100 || count.canceled < 5 || count.retried < 5; i++) {
      // At any time of its life.
      await sleep(Math.random() * 100);
      if (i % 3 === 0) {
        await daemon.away();
        await sleep(Math.random() * 1000);
        await daemon.back();
      } else {
        await daemon.over(() => {
          i % 3 === 1 ? daemon.replace() : daemon.kill();
        });
      }
    }
    ended = true;
    await Promise.all(work);
  });
});
