import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type NetConnectOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GuestEndpoint, type EndpointOptions } from '../../src/transport/guest-endpoint.js';
import { DEFAULT_LIMITS, type Rejection } from '../../src/transport/guest-link.js';
import { settled, waitFor } from '../support/wait-for.js';
import { commandOf, EchoTpm } from './echo-tpm.js';
import { Peer } from './peer.js';

describe('the sockets of a guest', () => {
  let root: string;
  let path: string;
  let tpm: EchoTpm;
  let endpoint: GuestEndpoint | undefined;
  let rejections: Rejection[];
  const peers: Peer[] = [];

  const open = async (options: Partial<EndpointOptions> = {}, limits = {}): Promise<void> => {
    endpoint = await GuestEndpoint.open({
      name: 'g',
      tpm,
      description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 0x10002, model: 'm' },
      limits: { ...DEFAULT_LIMITS, ...limits },
      directory: join(root, 'g'),
      onRejection: (reason) => rejections.push(reason),
      onDefect: (error) => {
        throw error;
      },
      ...options,
    });
    path = join(root, 'g', 'tpm.sock');
  };
  const peer = async (address: NetConnectOpts = { path }): Promise<Peer> => {
    const made = await Peer.to(address);
    peers.push(made);
    return made;
  };
  const control = (): Promise<Peer> => peer({ path: `${path}.ctrl` });

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-sock-'));
    tpm = new EchoTpm();
    await tpm.powerOn();
    tpm.log.length = 0;
    rejections = [];
  });
  afterEach(async () => {
    for (const each of peers.splice(0)) each.socket.destroy();
    await endpoint?.close(100);
    endpoint = undefined;
    await rm(root, { recursive: true });
  });

  it('are for their owner only, and go with the endpoint', async () => {
    await open();
    assert.equal((await stat(join(root, 'g'))).mode & 0o777, 0o700);
    for (const file of [path, `${path}.ctrl`]) assert.equal((await stat(file)).mode & 0o777, 0o600);
    await endpoint?.close(0);
    assert.equal(existsSync(join(root, 'g')), false);
  });

  it('replace what a killed daemon left', async () => {
    await mkdir(join(root, 'g'));
    const left = createServer().listen(join(root, 'left'));
    await new Promise((resolve) => left.once('listening', resolve));
    const { renameSync } = await import('node:fs');
    renameSync(join(root, 'left'), join(root, 'g', 'tpm.sock'));
    await open();
    const client = await peer();
    client.socket.write(commandOf(Buffer.from('a')));
    assert.deepEqual(await client.take(11), commandOf(Buffer.from('a')));
    left.close();
  });

  it('do not replace what is not a socket', async () => {
    await mkdir(join(root, 'g'));
    await writeFile(join(root, 'g', 'tpm.sock'), 'mine');
    await assert.rejects(open(), /listening on .*tpm\.sock/);
  });

  it('have a path that the kernel takes whole', async () => {
    await assert.rejects(open({ directory: join(root, 'x'.repeat(100)) }), /can have 107 bytes/);
  });

  it('serve one connection per command and many commands per connection', async () => {
    await open();
    for (const text of ['a', 'b']) {
      const once = await peer();
      once.socket.write(commandOf(Buffer.from(text)));
      assert.deepEqual(await once.take(11), commandOf(Buffer.from(text)));
      once.socket.destroy();
    }
    const long = await peer();
    long.socket.write(Buffer.concat(['c', 'd', 'e'].map((text) => commandOf(Buffer.from(text)))));
    assert.equal((await long.take(33)).toString('latin1').replaceAll(/[^c-e]/g, ''), 'cde');
    assert.deepEqual(tpm.log, ['a@0', 'b@0', 'c@0', 'd@0', 'e@0']);
  });

  it('serve TCP on the loopback address', async () => {
    const port = 20_000 + (process.pid % 10_000);
    await open({ tcpPort: port });
    const data = await peer({ host: '127.0.0.1', port });
    data.socket.write(commandOf(Buffer.from('tcp')));
    assert.deepEqual(await data.take(13), commandOf(Buffer.from('tcp')));
    // As swtpm does, for programs that speak to it as to the simulator (wolfTPM).
    data.socket.write(Buffer.concat([Buffer.from('00000008030000000d', 'hex'), commandOf(Buffer.from('sim'))]));
    assert.deepEqual(await data.take(21), Buffer.concat([Buffer.from('0000000d', 'hex'), commandOf(Buffer.from('sim')), Buffer.alloc(4)]));
    data.socket.write(Buffer.concat([Buffer.from('00000008050000000d', 'hex'), commandOf(Buffer.from('sim'))]));
    assert.equal((await data.take(18)).toString('hex'), '0000000a80010000000a0000090700000000');
    assert.deepEqual(tpm.log.slice(-2), ['tcp@0', 'sim@3']);
    assert.equal(await (await peer({ host: '127.0.0.1', port: port + 1 })).ask('0000000f', 8), '0000000000000000');
    await assert.rejects(GuestEndpoint.open({ ...optionsFor('h'), tcpPort: port }), /the address is in use \(choose another port\)/);
    assert.equal(existsSync(join(root, 'h')), false);
  });

  const optionsFor = (name: string): EndpointOptions => ({
    name,
    tpm,
    description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 0, model: 'm' },
    limits: DEFAULT_LIMITS,
    directory: join(root, name),
    onRejection: () => undefined,
    onDefect: () => undefined,
  });

  it('answer a peer that closes its side after the command', async () => {
    await open();
    const release = tpm.hold();
    const client = await peer();
    client.socket.end(commandOf(Buffer.from('last')));
    await waitFor(() => tpm.begun === 1 && client.socket.writableFinished);
    await settled();
    release();
    assert.deepEqual(await client.take(14), commandOf(Buffer.from('last')));
    await client.end();
  });

  it('end a connection at an impossible size, after the answers before it', async () => {
    await open();
    for (const size of ['00000000', '00000009', '00001001', 'ffffffff']) {
      const client = await peer();
      client.socket.write(Buffer.concat([commandOf(Buffer.from('x')), Buffer.from(`8001${size}00000000`, 'hex')]));
      assert.equal((await client.take(11)).length, 11);
      await client.end();
    }
    assert.deepEqual(rejections, Array(4).fill('bad_header'));
  });

  it('take a command of 4096 bytes', async () => {
    await open();
    const client = await peer();
    client.socket.write(commandOf(Buffer.alloc(4086, 1)));
    assert.equal((await client.take(4096)).length, 4096);
  });

  it('end a connection whose command does not get complete, however it drips', async () => {
    await open({}, { partialFrameTimeout: 150 });
    const half = await peer();
    half.socket.write(commandOf(Buffer.alloc(20)).subarray(0, 7));
    const drip = await peer();
    // Of a command of 4096 bytes, which at this pace is not complete before everything here has given up.
    drip.socket.write(Buffer.from('800100001000', 'hex'));
    const timer = setInterval(() => drip.socket.write(Buffer.from([0])), 40);
    const idle = await peer();
    await Promise.all([half.end(), drip.end()]);
    clearInterval(timer);
    assert.deepEqual(rejections, ['slow_command', 'slow_command']);
    assert.equal(idle.closed, false);
    idle.socket.write(commandOf(Buffer.from('z')));
    assert.equal((await idle.take(11)).length, 11);
  });

  it('close connections over the limit and serve the others', async () => {
    await open({}, { maxConnections: 3 });
    const first = [await peer(), await peer(), await control()];
    await waitFor(() => endpoint?.connectionCount === 3);
    const fourth = await peer();
    await fourth.end();
    assert.deepEqual(rejections, ['too_many']);
    first[0]?.socket.destroy();
    await waitFor(() => endpoint?.connectionCount === 2);
    const again = await peer();
    again.socket.write(commandOf(Buffer.from('q')));
    assert.equal((await again.take(11)).length, 11);
  });

  it('run the commands of several connections one after the other', async () => {
    await open();
    const release = tpm.hold();
    const clients = await Promise.all(Array.from({ length: 20 }, () => peer()));
    const texts = clients.map((_client, i) => `client ${i.toString().padStart(2, '0')}`);
    for (const [i, client] of clients.entries()) client.socket.write(commandOf(Buffer.from(texts[i] ?? '')));
    await waitFor(() => tpm.begun === 20);
    assert.deepEqual(tpm.log, []);
    release();
    for (const [i, client] of clients.entries()) assert.equal((await client.take(19)).subarray(10).toString(), texts[i]);
    assert.deepEqual(
      tpm.log.toSorted(),
      texts.map((text) => `${text}@0`),
    );
  });

  it('do not read from a peer that does not read, and end it after a time', async () => {
    await open({}, { unreadResponseTimeout: 200 });
    const deaf = connect({ path });
    deaf.on('error', () => undefined);
    deaf.pause();
    const frame = commandOf(Buffer.alloc(4086, 7));
    let written = 0;
    const pump = (): void => {
      while (written < 4000 && deaf.write(frame)) written += 1;
    };
    deaf.on('drain', pump);
    pump();
    await new Promise((resolve) => deaf.once('close', resolve));
    assert.deepEqual(rejections, ['unread_response']);
    assert.ok(tpm.log.length < 1000, `${tpm.log.length.toString()} commands were run for it`);
  });

  it('let the running command end when the endpoint is closed', async () => {
    await open();
    const release = tpm.hold();
    const client = await peer();
    const idle = await peer();
    client.socket.write(Buffer.concat([commandOf(Buffer.from('1')), commandOf(Buffer.from('2'))]));
    await waitFor(() => tpm.begun === 1);
    const closed = endpoint?.close(60_000);
    release();
    await closed;
    assert.deepEqual(await client.take(11), commandOf(Buffer.from('1')));
    await Promise.all([client.end(), idle.end()]);
    assert.deepEqual(tpm.log, ['1@0']);
  });

  it('survive garbage', async () => {
    await open();
    for (let i = 0; i < 30; i++) {
      const client = await peer();
      client.socket.end(Buffer.from(Array.from({ length: 200 }, (_, j) => (i * 37 + j * 91) & 0xff)));
      const other = await control();
      other.socket.end(Buffer.from(Array.from({ length: 50 }, (_, j) => (i * 53 + j * 17) & 0xff)));
      await Promise.all([client.end(), other.end()]);
    }
    const client = await peer();
    client.socket.write(commandOf(Buffer.from('ok')));
    assert.equal((await client.take(12)).length, 12);
  });

  it('serve the control channel as QEMU and tpm2-tss use it', async () => {
    await open();
    const ctrl = await control();
    assert.equal(await ctrl.ask('00000001', 8), '0000000000017fff');
    assert.equal(await ctrl.ask('0000000e', 4), '00000000');
    assert.equal(await ctrl.ask('0000001100000000', 16), '000000000000100000000af800001000');
    assert.equal(await ctrl.ask('0000000e', 4), '00000000');
    assert.equal(await ctrl.ask('0000001100000f80', 16), '0000000000000f8000000af800001000');
    assert.equal(await ctrl.ask('0000001100000001', 16), '0000000000000af800000af800001000');
    assert.equal(await ctrl.ask('00000011ffffffff', 16), '000000000000100000000af800001000');
    assert.equal(await ctrl.ask('0000000200000000', 4), '00000000');
    assert.equal(await ctrl.ask('0000001100000f80', 4), '0000000a');
    assert.equal(await ctrl.ask('00000004', 8), '0000000000000000');
    assert.equal(await ctrl.ask('00000009', 4), '00000000');
    assert.equal(await ctrl.ask('0000000200000001', 4), '00000000');
    assert.equal(await ctrl.ask('00000003', 4), '00000000');
    assert.deepEqual(tpm.log, ['off', 'init', 'cancel', 'init, delete', 'off', 'on']);
    assert.equal(tpm.powered, true);
  });

  it('take the locality from the control channel, as 5 or as 8 bytes', async () => {
    await open();
    const ctrl = await control();
    const data = await peer();
    for (const [request, locality] of [
      ['0000000503', 3],
      ['0000000502000000', 2],
      ['0000000501', 1],
      ['0000000500000000', 0],
      ['0000000504000000', 4],
    ] as const) {
      assert.equal(await ctrl.ask(request, 4), '00000000');
      data.socket.write(commandOf(Buffer.from('l')));
      await data.take(11);
      assert.equal(tpm.log.at(-1), `l@${locality.toString()}`);
    }
    assert.equal(await ctrl.ask('0000000505000000', 4), '0000003d');
    assert.equal(await ctrl.ask('0000000b03000000', 4), '00000000');
    assert.equal(await ctrl.ask('0000000b00000000', 4), '0000003d');
    assert.equal(await ctrl.ask('00000004', 8), '0000000000000000');
  });

  it('say what they do not serve', async () => {
    await open();
    const ctrl = await control();
    for (const request of ['00000014', '00000000']) {
      assert.equal(await ctrl.ask(request, 4), '0000000a');
    }
    assert.equal(await ctrl.ask('0000000f', 8), '0000000000000000');
    assert.equal(await ctrl.ask('deadbeef', 4), '0000000a');
    await ctrl.end();
  });

  it('describe the TPM', async () => {
    await open();
    const ctrl = await control();
    const head = await ctrl.ask('0000001200000000000000030000000000000000', 12);
    const size = Number.parseInt(head.slice(8, 16), 16);
    const text = (await ctrl.take(size)).toString();
    assert.equal(text.at(-1), '\0');
    assert.deepEqual(JSON.parse(text.slice(0, -1)), {
      TPMSpecification: { family: '2.0', level: 0, revision: 159 },
      TPMAttributes: { manufacturer: 'id:54455354', version: 'id:00010002', model: 'm' },
    });
    assert.equal(await ctrl.ask('0000001200000000000000030000ffff00000000', 12), `00000000${head.slice(8, 16)}00000000`);
  });

  it('keep a control connection alive after a request in two pieces', async () => {
    await open();
    const ctrl = await control();
    ctrl.socket.write(Buffer.from('000000', 'hex'));
    // It has come in when the answer to a later request on another connection is here.
    await (await control()).ask('0000000f', 8);
    assert.equal(await ctrl.ask('0503', 4), '00000000');
    assert.equal(endpoint?.locality, 3);
  });
});
