// Connections of guests outlive the daemon, however it ends: real processes, real sockets.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_NT, TPM_RH, TPM_SE, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { KeptDaemon } from '../../support/kept-daemon.js';
import { eccTemplate } from '../../support/templates.js';
import { tpmux } from '../command-line.js';
import { executeOver as over, Peer } from '../../transport/peer.js';

const exec = promisify(execFile);
const NULL_SYMMETRIC = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const COUNTER = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | (TPM_NT.COUNTER << 4);
const getRandom = frame(Commands.GetRandom, { bytesRequested: 8 });

const extend = (execute: Execute, byte: number): Promise<unknown> =>
  run(execute, Commands.PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, byte) }] });

async function pcr16(execute: Execute): Promise<string> {
  const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([0, 0, 1]) }];
  return (await run(execute, Commands.PCR_Read, { pcrSelectionIn })).pcrValues[0]?.toString('hex') ?? '';
}

describe('tpmux keep', function () {
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

  const guest = async (...options: string[]): Promise<string> => {
    const name = `g${(++guests).toString()}`;
    await daemon.create(name, ...options);
    return name;
  };
  const connect = async (address: Parameters<typeof Peer.to>[0]): Promise<Peer> => {
    const peer = await Peer.to(address);
    peers.push(peer);
    return peer;
  };
  const data = (name: string): Promise<Peer> => connect({ path: daemon.socket(name) });
  const control = (name: string): Promise<Peer> => connect({ path: `${daemon.socket(name)}.ctrl` });
  const started = async (name: string): Promise<Execute> => {
    const execute = over(await data(name));
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    return execute;
  };
  for (const [how, interrupt] of [
    [
      'killed',
      (): void => {
        daemon.kill();
      },
    ],
    [
      'replaced',
      (): void => {
        daemon.replace();
      },
    ],
  ] as const) {
    it(`keeps a connection, its session and the PCRs when the daemon is ${how}`, async () => {
      const execute = await started(await guest());
      await extend(execute, 1);
      const before = await pcr16(execute);
      const session = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL, nonceCaller: Buffer.alloc(32, 7), encryptedSalt: none };
      const { sessionHandle } = await run(execute, Commands.StartAuthSession, {
        ...session,
        sessionType: TPM_SE.POLICY,
        symmetric: NULL_SYMMETRIC,
        authHash: TPM_ALG.SHA256,
      });
      await run(execute, Commands.PolicyCommandCode, { policySession: sessionHandle, code: Commands.Unseal.code });
      const { policyDigest } = await run(execute, Commands.PolicyGetDigest, { policySession: sessionHandle });
      await daemon.over(interrupt);
      assert.equal(await pcr16(execute), before);
      const after = await run(execute, Commands.PolicyGetDigest, { policySession: sessionHandle });
      assert.deepEqual(after.policyDigest, policyDigest);
      await extend(execute, 2);
      assert.notEqual(await pcr16(execute), before);
    });
  }

  it('says ready once', () => {
    assert.equal(daemon.out, 'ready\n');
    assert.ok(daemon.starts >= 3);
  });

  it('lets who connects while no daemon is there wait, on every kind of socket', async () => {
    const port = 23_000 + (process.pid % 5000) * 2;
    const name = await guest('--tcp', port.toString(), '--mssim', (port + 10_000).toString());
    await started(name);
    await daemon.over(async () => {
      await daemon.killed();
      const waiting = await Promise.all([
        data(name),
        connect({ host: '127.0.0.1', port }),
        control(name),
        connect({ host: '127.0.0.1', port: port + 1 }),
        connect({ host: '127.0.0.1', port: port + 10_000 }),
      ]);
      const [unix, tcp, unixControl, tcpControl, mssim] = waiting;
      for (const peer of [unix, tcp]) assert.equal(codeOf(await over(peer)(getRandom)), 0);
      for (const peer of [unixControl, tcpControl]) assert.equal(await peer.ask('0000000f', 8), '0000000000000000');
      assert.match(
        await mssim.ask(`0000000800${getRandom.length.toString(16).padStart(8, '0')}${getRandom.toString('hex')}`, 28),
        /^000000148001/,
      );
    });
  });

  it('goes on in the middle of a command', async () => {
    const name = await guest();
    await started(name);
    const peer = await data(name);
    peer.socket.write(Buffer.concat([getRandom, getRandom.subarray(0, 7)]));
    assert.equal((await peer.take(20)).readUInt32BE(6), 0);
    // The daemon has read the half when it has answered what came later.
    await over(await data(name))(getRandom);
    await daemon.over(() => {
      daemon.kill();
    });
    peer.socket.write(getRandom.subarray(7));
    assert.equal((await peer.take(20)).readUInt32BE(6), 0);
  });

  const createPrimary = frame(Commands.CreatePrimary, {
    primaryHandle: TPM_RH.OWNER,
    inSensitive: { userAuth: none, data: none },
    inPublic: eccTemplate(),
    outsideInfo: none,
    creationPCR: [],
  });

  it('answers a command over which the daemon was killed TPM_RC_RETRY', async () => {
    const name = await guest();
    const execute = await started(name);
    daemon.holds.create = true;
    const answer = execute(createPrimary);
    await daemon.until(() => daemon.relay.held === 1);
    daemon.holds.create = false;
    daemon.kill();
    assert.equal(codeOf(await answer), TPM_RC.RETRY);
    assert.equal(codeOf(await execute(createPrimary)), TPM_RC.SUCCESS);
  });

  it('lets a command end when the daemon is replaced', async () => {
    const name = await guest();
    const execute = await started(name);
    daemon.holds.create = true;
    const answer = execute(createPrimary);
    await daemon.until(() => daemon.relay.held === 1);
    await daemon.over(async () => {
      const ends = (): number => daemon.log.split(' shutting down').length;
      const before = ends();
      daemon.replace();
      await daemon.until(() => ends() > before);
      daemon.holds.create = false;
      daemon.relay.release();
      assert.equal(codeOf(await answer), TPM_RC.SUCCESS);
    });
    assert.equal(codeOf(await execute(getRandom)), TPM_RC.SUCCESS);
  });

  it('ends the connections of a guest that is stopped, kept or not', async () => {
    const name = await guest();
    const peer = await data(name);
    await daemon.over(() => {
      daemon.kill();
    });
    const late = await data(name);
    const { code } = await tpmux(['guest', 'stop', name, '--run-dir', daemon.runDir]);
    assert.equal(code, 0);
    await Promise.all([peer.end(), late.end()]);
    await assert.rejects(data(name), /ENOENT/);
    await daemon.over(() => {
      daemon.kill();
    });
    assert.equal((await tpmux(['guest', 'start', name, '--run-dir', daemon.runDir])).code, 0);
    await started(name);
  });

  it('serves programs of tpm2-tools over kills', async () => {
    const name = await guest();
    const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${daemon.socket(name)}` };
    await exec('tpm2_startup', ['-c'], { env });
    for (let i = 0; i < 2; i++) {
      const [{ stdout }] = await Promise.all([
        exec('tpm2_getrandom', ['--hex', '8'], { env }),
        daemon.over(() => {
          daemon.kill();
        }),
      ]);
      assert.match(stdout, /^[0-9a-f]{16}$/);
    }
  });

  it('loses no answer and gives none twice, whenever it is killed', async () => {
    const name = await guest();
    await started(name);
    const clients = await Promise.all(Array.from({ length: 4 }, () => data(name)));
    let ended = false;
    let answered = 0;
    const work = clients.map(async (peer, index) => {
      const execute = over(peer);
      for (let round = 0; !ended; round++) {
        // The size that comes back tells whether it is the answer to this request.
        const size = 1 + ((index * 7 + round) % 16);
        const response = await execute(frame(Commands.GetRandom, { bytesRequested: size }));
        if (codeOf(response) === TPM_RC.RETRY) continue;
        assert.equal(codeOf(response), 0);
        assert.equal(response.readUInt16BE(10), size);
        answered++;
      }
    });
    for (let i = 0; i < 6 || answered <= 100; i++) {
      // At any time of its life.
      await sleep(Math.random() * 100);
      await daemon.over(() => {
        i % 3 === 2 ? daemon.replace() : daemon.kill();
      });
    }
    ended = true;
    await Promise.all(work);
    assert.equal(
      clients.reduce((sum, { received }) => sum + received.length, 0),
      0,
    );
  });

  it('executes every command once that is answered, whenever it is killed', async () => {
    const name = await guest();
    await started(name);
    let ended = false;
    const clients = await Promise.all(
      [16, 23].map(async (index) => ({ index, execute: over(await data(name)), expected: Buffer.alloc(32) })),
    );
    const definition = { nvIndex: 0x01500000, nameAlg: TPM_ALG.SHA256, attributes: COUNTER, authPolicy: none, dataSize: 8 };
    await run(clients[0]!.execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo: definition });
    const counter = { authHandle: TPM_RH.OWNER, nvIndex: definition.nvIndex };
    await run(clients[0]!.execute, Commands.NV_Increment, counter);
    const count = async (execute: Execute): Promise<bigint> =>
      (await run(execute, Commands.NV_Read, { ...counter, size: 8, offset: 0 })).data.readBigUInt64BE();
    const first = await count(clients[0]!.execute);
    let increments = 0;
    const send = async (execute: Execute, bytes: Buffer): Promise<void> => {
      let code: number = TPM_RC.RETRY;
      while (code === TPM_RC.RETRY) code = codeOf(await execute(bytes));
    };
    const work = clients.map(async (client) => {
      for (let round = 0; !ended; round++) {
        const digest = Buffer.alloc(32, round);
        const digests = [{ hashAlg: TPM_ALG.SHA256, digest }];
        await send(client.execute, frame(Commands.PCR_Extend, { pcrHandle: client.index, digests }));
        client.expected = createHash('sha256').update(client.expected).update(digest).digest();
        await send(client.execute, frame(Commands.NV_Increment, counter));
        increments++;
      }
    });
    for (let i = 0; i < 10 || increments <= 20; i++) {
      // At any time of its life.
      await sleep(Math.random() * 200);
      await daemon.over(() => {
        daemon.kill();
      });
    }
    ended = true;
    await Promise.all(work);
    const { execute } = clients[0]!;
    const pcrSelectionIn = [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([0, 0, 0x81]) }];
    const { pcrValues } = await run(execute, Commands.PCR_Read, { pcrSelectionIn });
    assert.deepEqual(
      pcrValues,
      clients.map(({ expected }) => expected),
    );
    assert.equal((await count(execute)) - first, BigInt(increments));
  });

  it('ends both in order, and what it kept', async () => {
    const name = await guest();
    const peer = await data(name);
    await over(peer)(getRandom);
    assert.equal(await daemon.end(), 0);
    await peer.end();
    assert.match(daemon.log, /guest suspended/);
  });
});
