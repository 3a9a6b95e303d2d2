// The control channel as a machine uses it: its own data descriptor, its end, snapshots of its TPM.
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFd, socketPair } from '../../../src/native/index.js';
import { PCR_Extend, PCR_Read, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_SU } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { GuestEndpoint } from '../../../src/transport/guest-endpoint.js';
import { DEFAULT_LIMITS } from '../../../src/transport/guest-link.js';
import type { GuestTpm } from '../../../src/vtpm/guest-tpm.js';
import { codeOf, frame, parse } from '../../support/frames.js';
import { openTestTpm } from '../../support/vtpm.js';
import { settled, waitFor } from '../../support/wait-for.js';
import { commandOf, EchoTpm } from '../echo-tpm.js';
import { Peer } from '../peer.js';

const SET_DATAFD = '00000010';

describe('a control connection', () => {
  let root: string;
  let endpoint: GuestEndpoint;
  let refusals: string[];
  const peers: Peer[] = [];

  const open = async (tpm: GuestTpm): Promise<void> => {
    refusals = [];
    endpoint = await GuestEndpoint.open({
      name: 'g',
      tpm,
      description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 0x10002, model: 'm' },
      limits: DEFAULT_LIMITS,
      directory: join(root, 'g'),
      onRejection: () => undefined,
      onRefusedState: (part, reason) => refusals.push(`${part}: ${reason}`),
      onDefect: (error) => {
        throw error;
      },
    });
  };
  const control = async (): Promise<Peer> => {
    const peer = await Peer.to({ path: join(root, 'g', 'tpm.sock.ctrl') });
    peers.push(peer);
    return peer;
  };
  const data = async (): Promise<Peer> => {
    const peer = await Peer.to({ path: join(root, 'g', 'tpm.sock') });
    peers.push(peer);
    return peer;
  };
  /** A machine's end of a data connection that `ctrl` has handed over. */
  const attach = async (ctrl: Peer, expected = '00000000'): Promise<Peer> => {
    const [mine, theirs] = socketPair();
    ctrl.sendWithFds(SET_DATAFD, [theirs]);
    closeFd(theirs);
    assert.equal((await ctrl.take(4)).toString('hex'), expected);
    const peer = new Peer(new Socket({ fd: mine, readable: true, writable: true }));
    peers.push(peer);
    return peer;
  };

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-ctrl-'));
  });
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.socket.destroy();
    await endpoint.close(100);
    await rm(root, { recursive: true });
  });

  it('hands a data descriptor over, once', async () => {
    const tpm = new EchoTpm();
    await open(tpm);
    const ctrl = await control();
    assert.equal(await ctrl.ask(SET_DATAFD, 4), '00000003');
    const machine = await attach(ctrl);
    machine.socket.write(commandOf(Buffer.from('one')));
    assert.deepEqual(await machine.take(13), commandOf(Buffer.from('one')));
    const second = await attach(ctrl, '0000001f');
    await second.end();
    machine.socket.write(commandOf(Buffer.from('two')));
    assert.deepEqual(await machine.take(13), commandOf(Buffer.from('two')));
  });

  it('takes only a socket for data', async () => {
    await open(new EchoTpm());
    const ctrl = await control();
    const file = openSync('/dev/null', 'r');
    ctrl.sendWithFds(SET_DATAFD, [file]);
    closeFd(file);
    assert.equal((await ctrl.take(4)).toString('hex'), '00000003');
    assert.equal(await ctrl.ask('0000000f', 8), '0000000000000000');
  });

  it('closes descriptors that come with other requests', async () => {
    await open(new EchoTpm());
    const ctrl = await control();
    for (let i = 0; i < 10; i++) {
      const [mine, theirs] = socketPair();
      ctrl.sendWithFds('0000000f', [theirs, theirs]);
      closeFd(theirs);
      assert.equal((await ctrl.take(8)).toString('hex'), '0000000000000000');
      const peer = new Peer(new Socket({ fd: mine, readable: true, writable: true }));
      peers.push(peer);
      if (i > 0) await peers.at(-2)?.end();
    }
  });

  it('says that a command is canceled when the command is answered, or does not end', async () => {
    const tpm = new EchoTpm();
    await open(tpm);
    const ctrl = await control();
    const machine = await attach(ctrl);
    const release = tpm.hold();
    machine.socket.write(commandOf(Buffer.from('slow')));
    // In the same turn of the event loop.
    ctrl.socket.write(Buffer.from('00000009', 'hex'));
    await waitFor(() => tpm.log.includes('cancel'));
    assert.equal(tpm.begun, 1, 'the command came before');
    await settled();
    assert.equal(ctrl.received.length, 0);
    release();
    assert.equal((await ctrl.take(4)).toString('hex'), '00000000');
    assert.deepEqual(await machine.take(14), commandOf(Buffer.from('slow')));
    const releaseLater = tpm.hold();
    machine.socket.write(commandOf(Buffer.from('stuck')));
    assert.equal(await ctrl.ask('00000009', 4), '00000000');
    assert.equal(machine.received.length, 0);
    releaseLater();
    assert.deepEqual(await machine.take(15), commandOf(Buffer.from('stuck')));
  });

  it('keeps the others waiting while a machine has the TPM', async () => {
    const tpm = new EchoTpm();
    await open(tpm);
    const first = await control();
    await attach(first);
    const second = await control();
    second.socket.write(Buffer.from('0000000e', 'hex'));
    // What is asked later elsewhere is answered, so the second has been read, and is not answered.
    assert.equal(await first.ask('0000000f', 8), '0000000000000000');
    await settled();
    assert.equal(second.received.length, 0);
    assert.deepEqual(tpm.log, []);
    first.socket.destroy();
    assert.equal((await second.take(4)).toString('hex'), '00000000');
    assert.deepEqual(tpm.log, ['cancel', 'on', 'off']);
  });

  it('leaves the TPM as after power-on when the machine ends, in order or not', async () => {
    const tpm = new EchoTpm();
    await tpm.powerOn();
    await open(tpm);
    for (const shutdown of [true, false]) {
      tpm.log.length = 0;
      const ctrl = await control();
      const machine = await attach(ctrl);
      assert.equal(await ctrl.ask('0000000503000000', 4), '00000000');
      if (shutdown) assert.equal(await ctrl.ask('00000003', 4), '00000000');
      ctrl.socket.destroy();
      machine.socket.destroy();
      await waitFor(() => tpm.log.includes('on') && endpoint.connectionCount === 0);
      assert.deepEqual(
        tpm.log.filter((entry) => entry !== 'cancel'),
        ['off', 'on'],
      );
      assert.equal(endpoint.locality, 0);
    }
  });

  it('takes hash sequences, and ends at a length that is too long', async () => {
    const tpm = new EchoTpm();
    await open(tpm);
    const ctrl = await control();
    assert.equal(await ctrl.ask('00000006', 4), '0000000a');
    await tpm.powerOn();
    tpm.log.length = 0;
    assert.equal(await ctrl.ask('00000006', 4), '00000000');
    assert.equal(await ctrl.ask('0000000700000003616263', 4), '00000000');
    assert.equal(await ctrl.ask('00000008', 4), '00000000');
    assert.deepEqual(tpm.log, ['hash start', 'hash abc', 'hash end']);
    ctrl.socket.write(Buffer.from('00000007ffffffff', 'hex'));
    await ctrl.end();
  });

  const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from('000001', 'hex') }];
  const extend = frame(PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 7) }] });
  const exchange = async (peer: Peer, command: Buffer): Promise<Buffer> => {
    peer.socket.write(command);
    const head = await peer.take(10);
    return Buffer.concat([head, await peer.take(head.readUInt32BE(2) - 10)]);
  };
  const pcr16 = async (peer: Peer): Promise<string> => {
    const { out } = parse(PCR_Read, await exchange(peer, frame(PCR_Read, { pcrSelectionIn })));
    return out?.pcrValues[0]?.toString('hex') ?? 'none';
  };
  const getBlob = async (ctrl: Peer, type: number): Promise<Buffer> => {
    ctrl.socket.write(Buffer.from(`0000000c000000000000000${type.toString()}00000000`, 'hex'));
    const head = await ctrl.take(16);
    assert.equal(head.readUInt32BE(0), 0);
    assert.equal(head.readUInt32BE(4), 2);
    assert.equal(head.readUInt32BE(8), head.readUInt32BE(12));
    return ctrl.take(head.readUInt32BE(12));
  };
  const setBlob = async (ctrl: Peer, type: number, blob: Buffer): Promise<string> => {
    const head = Buffer.from(`0000000d000000020000000${type.toString()}00000000`, 'hex');
    head.writeUInt32BE(blob.length, 12);
    ctrl.socket.write(Buffer.concat([head, blob]));
    return (await ctrl.take(4)).toString('hex');
  };

  it('takes a snapshot of the TPM and puts it back', async () => {
    const { tpm, failures } = await openTestTpm();
    await open(tpm);
    const ctrl = await control();
    const machine = await attach(ctrl);
    await exchange(machine, extend);
    const value = await pcr16(machine);
    const permanent = await getBlob(ctrl, 1);
    const whole = await getBlob(ctrl, 2);
    assert.equal(await ctrl.ask('0000000c000000000000000300000000', 16), '00000800000000000000000000000000');
    assert.equal(await ctrl.ask('0000000c000000000000000900000000', 16), '00000009000000000000000000000000');
    // In pieces: they are of one blob, though a new one would have other bytes.
    const first = await getBlob(ctrl, 2);
    const offset = Buffer.from('0000000c000000000000000200000064', 'hex');
    ctrl.socket.write(offset);
    const rest = await ctrl.take(16);
    assert.equal(rest.readUInt32BE(12), first.length - 100);
    assert.deepEqual(await ctrl.take(rest.readUInt32BE(12)), first.subarray(100));
    assert.equal(await ctrl.ask('0000000c00000000000000027fffffff', 16), `0000000000000002${rest.toString('hex', 8, 12)}00000000`);

    await exchange(machine, extend);
    assert.notEqual(await pcr16(machine), value);
    assert.equal(await setBlob(ctrl, 2, whole), '0000000a');
    assert.equal(await ctrl.ask('0000000e', 4), '00000000');
    assert.equal(await ctrl.ask('0000000c000000000000000100000000', 4), '0000000a');
    assert.equal(await setBlob(ctrl, 1, permanent), '00000000');
    assert.equal(await setBlob(ctrl, 2, whole), '00000000');
    assert.equal(codeOf(await exchange(machine, extend)), TPM_RC.FAILURE);
    assert.equal(await ctrl.ask('0000000200000001', 4), '00000000');
    assert.equal(await pcr16(machine), value);
    // It was the last time.
    assert.equal(await ctrl.ask('0000000200000000', 4), '00000000');
    assert.equal(codeOf(await exchange(machine, extend)), TPM_RC.INITIALIZE);
    assert.deepEqual([refusals, failures], [[], []]);
  });

  it('refuses a blob that it cannot use, says why, and starts without it', async () => {
    const { tpm } = await openTestTpm();
    await open(tpm);
    const ctrl = await control();
    const blob = await getBlob(ctrl, 2);
    await ctrl.ask('0000000e', 4);
    const edited = Buffer.from(blob);
    edited[edited.length - 20] = (edited.at(-20) ?? 0) ^ 1;
    const older = Buffer.from(blob);
    older.writeUInt16BE(0, 8);
    const attempts = [edited, older, blob.subarray(0, 30), Buffer.from('garbage'), Buffer.alloc(0)];
    for (const attempt of attempts) assert.equal(await setBlob(ctrl, 2, attempt), '00000003');
    assert.equal(await setBlob(ctrl, 1, blob), '00000003');
    assert.equal(await setBlob(ctrl, 3, blob), '00000003');
    assert.equal(await setBlob(ctrl, 4, blob), '00000003');
    assert.deepEqual(refusals, [
      'volatile: it is not authentic: it was changed, or made under another state key',
      'volatile: it has format version 0; this tpmux reads version 1',
      'volatile: it is cut off',
      'volatile: it is not a state blob of tpmux',
      'volatile: it is not a state blob of tpmux',
      'permanent: it holds volatile state, not permanent state',
      'savestate: a TPM 2.0 has no such state',
    ]);
    assert.equal(await ctrl.ask('0000000200000000', 4), '00000000');
    const client = await data();
    assert.equal(codeOf(await exchange(client, extend)), TPM_RC.INITIALIZE);
    assert.equal(codeOf(await exchange(client, frame(Startup, { startupType: TPM_SU.CLEAR }))), TPM_RC.SUCCESS);
  });
});
