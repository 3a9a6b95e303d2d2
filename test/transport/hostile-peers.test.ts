// What a peer gets that sends garbage, half a header or a length of 4 GiB, on every way to a guest: it loses its connection, and
// nothing else happens. On a line, which is not a connection, what it sends is skipped.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFd, recvWithFds, sendWithFds, socketPair } from '../../src/native/index.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { Pty } from '../support/pty.js';
import { waitFor } from '../support/wait-for.js';
import { Peer } from './peer.js';

const PARTIAL_TIMEOUT = 400;
const TCP = 33_000 + (process.pid % 1000) * 4;
const MSSIM = TCP + 2;

/** TPM2_GetRandom(8), and how many bytes its response has. */
const GET_RANDOM = '80010000000c0000017b0008';
const RANDOM_SIZE = 20;

/** The command, without its parameter. */
const HEADER_ALONE = GET_RANDOM.slice(0, 20);

const noise = (seed: number): string =>
  Buffer.from(Array.from({ length: 10_000 }, (_, i) => (seed + i * 7919 + (i >> 3) * 31) & 0xff)).toString('hex');
/** None of these begins with a number that any of the protocols knows. */
const GARBAGE = [noise(0xa5), noise(0x47), Buffer.from('GET / HTTP/1.1\r\nHost: tpm\r\n\r\n').toString('hex'), 'ff'.repeat(70_000)];

interface Attack {
  readonly what: string;
  readonly hex: string;
}
const garbage = GARBAGE.map((hex, i): Attack => ({ what: `garbage ${(i + 1).toString()}`, hex }));
const commands: Attack[] = [
  ...garbage,
  { what: 'half a header', hex: '800100' },
  { what: 'a header without the rest', hex: HEADER_ALONE },
  { what: '4 GiB', hex: '8001ffffffff0000017b' },
  { what: 'a command, and 4 GiB', hex: `${GET_RANDOM}8001ffffffff0000017b` },
];
const control: Attack[] = [
  ...garbage,
  { what: 'half a number', hex: '0000' },
  { what: 'half a request', hex: '000000020000' },
  { what: 'HASH_DATA of 4 GiB', hex: '00000007ffffffff' },
  { what: 'SET_STATEBLOB of 4 GiB', hex: '0000000d0000000000000001ffffffff' },
  { what: 'SET_STATEBLOB without the blob', hex: '0000000d000000000000000100100000aabb' },
];
const mssim: Attack[] = [
  ...garbage,
  { what: 'half a number', hex: '0000' },
  { what: 'HASH_DATA of 4 GiB', hex: '00000006ffffffff' },
  { what: 'HASH_DATA without the data', hex: '0000000600000010aa' },
];
const mssimCommands: Attack[] = [
  ...mssim,
  { what: 'half a SEND_COMMAND', hex: '0000000800' },
  { what: 'SEND_COMMAND of 4 GiB', hex: '0000000800ffffffff' },
];

describe('hostile peers', function () {
  let daemon: RunningDaemon;
  let root: string;
  let witness: Peer;
  let pty: Pty;
  let consoleServer: Server;
  let atConsole: Socket | undefined;
  let socket: string;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-hostile-'));
    pty = await Pty.open(join(root, 'tty'));
    consoleServer = createServer((connection) => {
      atConsole = connection.on('error', () => undefined);
    }).listen(join(root, 'console'));
    daemon = await RunningDaemon.create({ partialFrameTimeout: PARTIAL_TIMEOUT });
    await daemon.start();
    const { status, text, body } = await daemon.ask('POST', '/v1/guests', {
      name: 'g',
      tcp: TCP,
      mssim: MSSIM,
      serial: [join(root, 'tty')],
      consoleSockets: [join(root, 'console')],
    });
    assert.equal(status, 201, text);
    ({ socket } = body);
    witness = await Peer.to({ path: socket });
    assert.equal(await witness.ask('80010000000c000001440000', 10), '80010000000a00000000');
    await waitFor(async () => (await daemon.ask('GET', '/v1/guests/g')).body.lines.every(({ open }) => open));
  });
  after(async () => {
    witness.socket.destroy();
    await daemon.dispose();
    await pty.close();
    atConsole?.destroy();
    consoleServer.close();
    await rm(root, { recursive: true });
  });

  const view = async (): Promise<{ powered: boolean; connections: number }> => (await daemon.ask('GET', '/v1/guests/g')).body;
  const pcrs = async (): Promise<string> => (await daemon.ask('GET', '/v1/guests/g/pcrs')).text;

  /** Runs `attack`; the guest is as it was, a connection that was there before works, and nothing failed. */
  const nothingElse = async (attack: () => Promise<void>): Promise<void> => {
    const before = await pcrs();
    daemon.log.length = 0;
    await attack();
    assert.match(await witness.ask(GET_RANDOM, RANDOM_SIZE), /^80010000001400000000/);
    assert.equal(await pcrs(), before);
    await waitFor(
      async () => (await view()).connections === 1,
      () => 'the connection is still counted',
    );
    assert.equal((await view()).powered, true);
    assert.deepEqual(
      daemon.log.filter((line) => /^(error|warn)/.test(line)),
      [],
    );
  };

  const sockets: [string, () => NetConnectOpts, Attack[]][] = [
    ['the data socket', (): NetConnectOpts => ({ path: socket }), commands],
    ['the data port', (): NetConnectOpts => ({ host: '127.0.0.1', port: TCP }), commands],
    ['the control socket', (): NetConnectOpts => ({ path: `${socket}.ctrl` }), control],
    ['the control port', (): NetConnectOpts => ({ host: '127.0.0.1', port: TCP + 1 }), control],
    ["the simulator's command port", (): NetConnectOpts => ({ host: '127.0.0.1', port: MSSIM }), mssimCommands],
    ["the simulator's platform port", (): NetConnectOpts => ({ host: '127.0.0.1', port: MSSIM + 1 }), mssim],
  ];
  for (const [name, address, attacks] of sockets) {
    for (const { what, hex } of attacks) {
      it(`${name}: ${what}`, async () => {
        await nothingElse(async () => {
          const peer = await Peer.to(address());
          peer.socket.write(Buffer.from(hex, 'hex'));
          await peer.end();
          peer.socket.destroy();
        });
      });
    }
  }

  for (const { what, hex } of commands) {
    it(`a data socket that was handed over: ${what}`, async () => {
      await nothingElse(async () => {
        const machine = await Peer.to({ path: `${socket}.ctrl` });
        const [ours, theirs] = socketPair();
        machine.sendWithFds('00000010', [theirs]);
        closeFd(theirs);
        assert.equal((await machine.take(4)).toString('hex'), '00000000');
        sendWithFds(ours, Buffer.from(hex, 'hex').subarray(0, 4096));
        await waitFor(() => recvWithFds(ours, 4096)?.data.length === 0);
        closeFd(ours);
        // Its control connection lives on.
        assert.equal(await machine.ask('00000001', 8), '0000000000017fff');
        assert.equal(await machine.ask('00000003', 4), '00000000');
        machine.socket.destroy();
        await machine.end();
        assert.equal(await witness.ask('80010000000c000001440000', 10), '80010000000a00000000');
      });
    });
  }

  const fromConsole = async (): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    await waitFor(() => {
      const chunk = atConsole?.read() as Buffer | null;
      if (chunk !== null) chunks.push(chunk);
      return Buffer.concat(chunks).length >= RANDOM_SIZE;
    });
    return Buffer.concat(chunks);
  };
  const noiseCount = async (): Promise<number> =>
    Number(
      /^tpmux_guest_connections_ended_total\{guest="g",reason="line_noise"\} (\d+)$/m.exec(
        (await daemon.ask('GET', '/metrics')).text,
      )?.[1] ?? 0,
    );
  const lines: [string, (bytes: Buffer) => unknown, () => Promise<Buffer>][] = [
    [
      'a tty',
      (bytes): void => {
        pty.write(bytes);
      },
      (): Promise<Buffer> => pty.take(RANDOM_SIZE),
    ],
    ['a console socket', (bytes): unknown => atConsole?.write(bytes), fromConsole],
  ];
  for (const [name, write, answer] of lines) {
    for (const { what, hex } of commands.filter(({ hex }) => !hex.startsWith(GET_RANDOM))) {
      it(`${name}: ${what}`, async () => {
        await nothingElse(async () => {
          const before = await noiseCount();
          write(Buffer.from(hex, 'hex'));
          // Only silence tells that the next bytes are not the rest.
          if (hex === HEADER_ALONE) await waitFor(async () => (await noiseCount()) > before);
          write(Buffer.from(GET_RANDOM, 'hex'));
          assert.match((await answer()).toString('hex'), /^80010000001400000000/);
        });
        assert.ok((await daemon.ask('GET', '/v1/guests/g')).body.lines.every(({ open }) => open));
      });
    }
  }
});
