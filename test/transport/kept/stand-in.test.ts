// What becomes of a machine's connections between two daemons, wherever the first one was killed: in one process, with the memory as it was left.
import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { closeFd, duplicateFd, ExchangeMemory, socketPair } from '../../../src/native/index.js';
import { errorResponse } from '../../../src/tpm/frame.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { GuestConnections } from '../../../src/transport/guest-connections.js';
import type { GuestLink } from '../../../src/transport/guest-link.js';
import { connectionName, exchangeSizes, GUEST_MEMORY_NAME, sortKept } from '../../../src/transport/kept/connections.js';
import { DescriptorStore, type KeptDescriptors } from '../../../src/transport/kept/descriptor-store.js';
import { GuestMemory } from '../../../src/transport/kept/guest-memory.js';
import { StandIn } from '../../../src/transport/kept/stand-in.js';
import { codeOf } from '../../support/frames.js';
import { settled, waitFor } from '../../support/wait-for.js';
import { commandOf, EchoTpm } from '../echo-tpm.js';
import { Peer } from '../peer.js';
import { testLink } from '../test-link.js';

const TOKEN = 77;
/** Of a control connection: a machine has the TPM. */
const MACHINE = 0x100;
const CANCEL = '00000009';
const RETRY = errorResponse(TPM_RC.RETRY);
const CANCELED = errorResponse(TPM_RC.CANCELED);

/** A TPM with power, and what the daemon before answered. */
function poweredTpm(answer?: Buffer): EchoTpm {
  const tpm = new EchoTpm();
  tpm.powered = true;
  if (answer !== undefined) tpm.answers.set(TOKEN, answer);
  return tpm;
}

/** The descriptor of a memory, for others to keep. */
function descriptorOf({ fd }: ExchangeMemory): number {
  assert.ok(fd !== undefined);
  return duplicateFd(fd);
}

describe('standing in for a daemon', () => {
  let kept: KeptDescriptors[];
  let machine: { channel: Peer; data: Peer };
  let memories: { control: ExchangeMemory; data: ExchangeMemory };
  let standIn: StandIn | undefined;
  let next: GuestConnections | undefined;
  let defects: unknown[];

  /** One connection as a daemon leaves it: the machine's end, and what is kept. */
  const connection = (kind: 'data' | 'fdcontrol', name: string): [Peer, ExchangeMemory, KeptDescriptors] => {
    const [mine, theirs] = socketPair();
    const exchange = ExchangeMemory.create(exchangeSizes(kind), true);
    return [new Peer(new Socket({ fd: mine, readable: true, writable: true })), exchange, { name, fds: [theirs, descriptorOf(exchange)] }];
  };

  beforeEach(() => {
    defects = [];
    const memory = ExchangeMemory.create({ input: 4096, response: 4096 }, true);
    const remembered = GuestMemory.adopt(descriptorOf(memory));
    remembered?.write(testLink(poweredTpm()));
    remembered?.close();
    const [channel, control, keptControl] = connection('fdcontrol', connectionName('fdcontrol', 1));
    const [data, exchange, keptData] = connection('data', connectionName('data', 2, 1));
    control.note = MACHINE;
    kept = [{ name: GUEST_MEMORY_NAME, fds: [descriptorOf(memory)] }, keptControl, keptData];
    memory.close();
    machine = { channel, data };
    memories = { control, data: exchange };
  });
  afterEach(async () => {
    for (const { socket } of [machine.channel, machine.data]) socket.destroy();
    await standIn?.leave();
    standIn = undefined;
    await next?.finish(0);
    next = undefined;
    for (const { fds } of kept) fds.forEach(closeFd);
    memories.control.close();
    memories.data.close();
    assert.deepEqual(defects, []);
  });

  const begin = (): StandIn => {
    standIn = StandIn.begin(kept, (error) => defects.push(error));
    assert.ok(standIn !== undefined);
    return standIn;
  };
  /** The next daemon takes over, with this TPM. */
  const takeOver = async (tpm: EchoTpm): Promise<void> => {
    await standIn?.leave();
    standIn = undefined;
    const link: GuestLink = testLink(tpm);
    next = new GuestConnections(link, DescriptorStore.none().of('g'));
    const duplicates = kept.map(({ name, fds }) => ({ name, fds: fds.map(duplicateFd) }));
    const onDropped = (name: string): void => {
      defects.push(name);
    };
    const { connections, memory } = sortKept(duplicates, onDropped);
    if (memory !== undefined) closeFd(memory);
    next.takeOver(connections, onDropped);
  };
  /** As the daemon left a command with which it had begun. */
  const begun = async (body: string): Promise<Buffer> => {
    const command = commandOf(Buffer.from(body));
    machine.data.socket.write(command);
    const { fds } = kept[2] ?? { fds: [] };
    await waitFor(() => memories.data.receive(fds[0] ?? -1, false) !== null);
    memories.data.begin(command.length, TOKEN);
    return command;
  };

  it('has nothing to do without a machine', () => {
    memories.control.note = 0;
    assert.equal(
      StandIn.begin(kept, (error) => defects.push(error)),
      undefined,
    );
  });

  it('gives a command that waits to the next daemon', async () => {
    const stand = begin();
    assert.equal(stand.takeWanted(), false);
    const command = commandOf(Buffer.from('fresh'));
    machine.data.socket.write(command);
    await waitFor(() => stand.takeWanted());
    assert.equal(stand.takeWanted(), false);
    await takeOver(new EchoTpm());
    assert.deepEqual(await machine.data.take(command.length), command);
  });

  it('answers a command that was begun and can have had no effect', async () => {
    await begun('begun');
    begin();
    assert.deepEqual(await machine.data.take(10), RETRY);
    const tpm = new EchoTpm();
    await takeOver(tpm);
    await settled();
    assert.equal(machine.data.received.length, 0);
    assert.deepEqual(tpm.log, []);
  });

  it('lets a command that was begun and can have had no effect be canceled', async () => {
    await begun('begun');
    begin();
    assert.equal(await machine.channel.ask(CANCEL, 4), '00000000');
    await settled();
    assert.deepEqual(await machine.data.take(10), CANCELED);
  });

  it('leaves a command that may have had its effect to the next daemon, which knows the answer, and CANCEL with it', async () => {
    await begun('done');
    memories.data.effect();
    const stand = begin();
    machine.channel.socket.write(Buffer.from(CANCEL, 'hex'));
    await waitFor(() => stand.takeWanted());
    await waitFor(() => memories.control.input().length === 4);
    await settled();
    assert.equal(machine.channel.received.length + machine.data.received.length, 0);
    const answer = commandOf(Buffer.from('the answer'));
    await takeOver(poweredTpm(answer));
    assert.equal((await machine.channel.take(4)).toString('hex'), '00000000');
    assert.deepEqual(await machine.data.take(answer.length), answer);
  });

  it('sends the rest of an answer', async () => {
    await begun('answered');
    const answer = commandOf(Buffer.from('of the daemon before'));
    memories.data.answer(answer);
    begin();
    assert.deepEqual(await machine.data.take(answer.length), answer);
    const command = commandOf(Buffer.from('next'));
    machine.data.socket.write(command);
    assert.equal(codeOf(await machine.data.take(10)), TPM_RC.RETRY);
  });

  it('answers a CANCEL that the daemon had begun, and leaves what it had begun and needs the TPM', async () => {
    for (const [request, answered] of [
      [CANCEL, true],
      ['0000000e', false],
    ] as const) {
      machine.channel.socket.write(Buffer.from(request, 'hex'));
      const { fds } = kept[1] ?? { fds: [] };
      await waitFor(() => memories.control.receive(fds[0] ?? -1, true) !== null);
      memories.control.begin(4, TOKEN);
      begin();
      if (answered) assert.equal((await machine.channel.take(4)).toString('hex'), '00000000');
      await standIn?.leave();
      standIn = undefined;
      assert.equal(memories.control.phase, answered ? 'idle' : 'executing');
    }
    const tpm = poweredTpm();
    await takeOver(tpm);
    assert.equal((await machine.channel.take(4)).toString('hex'), '00000000');
    assert.deepEqual(tpm.log, ['off']);
  });

  it('does not end a connection that its peer has closed: the next daemon does', async () => {
    const stand = begin();
    machine.channel.socket.destroy();
    machine.data.socket.destroy();
    await settled();
    await stand.leave();
    standIn = undefined;
    const tpm = poweredTpm();
    await takeOver(tpm);
    await waitFor(() => tpm.log.includes('on'));
    assert.deepEqual(tpm.log, ['off', 'on']);
  });
});
