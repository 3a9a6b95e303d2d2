// How programs on Microsoft's TSS cycle the power of the simulator: a TPM behind both ports.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Request } from '../../../src/tpm/command.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { GuestEndpoint } from '../../../src/transport/guest-endpoint.js';
import { DEFAULT_LIMITS } from '../../../src/transport/guest-link.js';
import { MSSIM } from '../../../src/transport/mssim/stream.js';
import { type AnyCommand, codeOf, frame, none, parse } from '../../support/frames.js';
import { openTestTpm } from '../../support/vtpm.js';
import { waitFor } from '../../support/wait-for.js';

const nvIndex = 0x01500001;
const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 4 } as const;

describe('a client of the simulator', () => {
  const port = 33_000 + (process.pid % 1000) * 2;
  let root: string;
  let endpoint: GuestEndpoint;
  let command: Socket;
  let platform: Socket;

  const ask = async (socket: Socket, request: Buffer, complete: (answer: Buffer) => boolean): Promise<Buffer> => {
    let answer = Buffer.alloc(0);
    const take = (data: Buffer): void => {
      answer = Buffer.concat([answer, data]);
    };
    socket.on('data', take);
    socket.write(request);
    await waitFor(
      () => complete(answer),
      () => answer.toString('hex'),
    );
    socket.off('data', take);
    return answer;
  };
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const signal = async (number: number): Promise<void> => {
    assert.deepEqual(await ask(platform, u32(number), (answer) => answer.length >= 4), u32(0));
  };
  const send = async (bytes: Buffer): Promise<Buffer> => {
    const whole = Buffer.concat([u32(MSSIM.SEND_COMMAND), Buffer.of(0), u32(bytes.length), bytes]);
    const answer = await ask(command, whole, (got) => got.length >= 4 && got.length >= got.readUInt32BE(0) + 8);
    return answer.subarray(4, -4);
  };
  const code = async <C extends AnyCommand>(of: C, values: Request<C>): Promise<number> => codeOf(await send(frame(of, values)));

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-mssim-'));
    const { tpm } = await openTestTpm({ startup: false });
    endpoint = await GuestEndpoint.open({
      name: 'g',
      tpm,
      description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 1, model: 'm' },
      limits: DEFAULT_LIMITS,
      directory: join(root, 'g'),
      mssimPort: port,
      onRejection: () => undefined,
      onDefect: (error) => {
        throw error;
      },
    });
    command = connect({ host: '127.0.0.1', port });
    platform = connect({ host: '127.0.0.1', port: port + 1 });
    await Promise.all([once(command, 'connect'), once(platform, 'connect')]);
  });
  after(async () => {
    command.destroy();
    platform.destroy();
    await endpoint.close(100);
    await rm(root, { recursive: true });
  });

  it('cycles the power by POWER_OFF, NV_OFF, POWER_ON, NV_ON', async () => {
    await signal(MSSIM.SIGNAL_POWER_ON);
    await signal(MSSIM.SIGNAL_NV_ON);
    assert.equal(await code(Commands.Startup, { startupType: TPM_SU.CLEAR }), TPM_RC.SUCCESS);
    assert.equal(await code(Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo }), TPM_RC.SUCCESS);
    const resets = async (): Promise<number> =>
      parse(Commands.ReadClock, await send(frame(Commands.ReadClock, {}))).out?.currentTime.clockInfo.resetCount ?? 0;
    const before = await resets();
    assert.equal(await code(Commands.Shutdown, { shutdownType: TPM_SU.CLEAR }), TPM_RC.SUCCESS);
    for (const number of [MSSIM.SIGNAL_POWER_OFF, MSSIM.SIGNAL_NV_OFF, MSSIM.SIGNAL_POWER_ON, MSSIM.SIGNAL_NV_ON]) await signal(number);
    assert.equal(await code(Commands.GetRandom, { bytesRequested: 1 }), TPM_RC.INITIALIZE);
    assert.equal(await code(Commands.Startup, { startupType: TPM_SU.CLEAR }), TPM_RC.SUCCESS);
    assert.equal(await resets(), before + 1);
    assert.equal(await code(Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.alloc(4), offset: 0 }), TPM_RC.SUCCESS);
  });

  it('executes a command after what came to the platform port before it', async () => {
    // As Microsoft's TSS for Java, which sends the size of each signal too, and takes the answers to half of it all for all of them.
    const cycle = [MSSIM.SIGNAL_POWER_OFF, MSSIM.SIGNAL_NV_OFF, MSSIM.SIGNAL_POWER_ON, MSSIM.SIGNAL_NV_ON];
    for (let i = 0; i < 5; i++) {
      const answers = ask(platform, Buffer.concat(cycle.flatMap((number) => [u32(4), u32(number)])), (got) => got.length >= 32);
      assert.equal(await code(Commands.Startup, { startupType: TPM_SU.CLEAR }), TPM_RC.SUCCESS);
      assert.deepEqual(await answers, Buffer.alloc(32));
    }
  });

  it('turns NV off and on', async () => {
    const write = { authHandle: TPM_RH.OWNER, nvIndex, data: Buffer.from('next'), offset: 0 } as const;
    await signal(MSSIM.SIGNAL_NV_OFF);
    assert.equal(await code(Commands.NV_Write, write), TPM_RC.NV_UNAVAILABLE);
    assert.equal(await code(Commands.GetRandom, { bytesRequested: 1 }), TPM_RC.SUCCESS);
    await signal(MSSIM.SIGNAL_NV_ON);
    assert.equal(await code(Commands.NV_Write, write), TPM_RC.SUCCESS);
  });
});
