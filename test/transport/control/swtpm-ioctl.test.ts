// swtpm_ioctl (Debian's swtpm-tools) on a guest's control socket: each of its options.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GuestEndpoint } from '../../../src/transport/guest-endpoint.js';
import { DEFAULT_LIMITS } from '../../../src/transport/guest-link.js';
import { GetCapability, PCR_Extend, PCR_Read, Startup } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_PT, TPM_SU } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import type { TPMS_TAGGED_PROPERTY } from '../../../src/tpm/structures/index.js';
import { codeOf, frame, parse } from '../../support/frames.js';
import { openTestTpm, type TestTpm } from '../../support/vtpm.js';

const run = promisify(execFile);

describe('swtpm_ioctl', () => {
  let root: string;
  let endpoint: GuestEndpoint;
  let test: TestTpm;
  let refusals: string[];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tpmux-ioctl-'));
    test = await openTestTpm();
    refusals = [];
    endpoint = await GuestEndpoint.open({
      name: 'g',
      tpm: test.tpm,
      description: { revision: 159, manufacturer: 'TEST', firmwareVersion: 0x10002, model: 'm' },
      limits: DEFAULT_LIMITS,
      directory: join(root, 'g'),
      onRejection: () => undefined,
      onRefusedState: (part, reason) => refusals.push(`${part}: ${reason}`),
      onDefect: (error) => {
        throw error;
      },
    });
  });
  afterEach(async () => {
    await endpoint.close(100);
    await rm(root, { recursive: true });
    assert.deepEqual(test.failures, []);
  });

  const control = (): string => join(root, 'g', 'tpm.sock.ctrl');
  const ioctl = async (...args: string[]): Promise<string> => {
    const { stdout } = await run('swtpm_ioctl', ['--unix', control(), ...args]);
    return stdout.trim();
  };
  const refused = async (...args: string[]): Promise<void> => {
    await assert.rejects(ioctl(...args));
  };
  const extend = frame(PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });
  const pcr = async (index: number): Promise<string> => {
    const pcrSelect = Buffer.alloc(3);
    pcrSelect[index >> 3] = 1 << (index & 7);
    const { code, out } = parse(PCR_Read, await test.execute(frame(PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect }] })));
    return code === 0 ? (out?.pcrValues[0]?.toString('hex') ?? '') : code.toString(16);
  };
  const start = (): Promise<Buffer> => test.execute(frame(Startup, { startupType: TPM_SU.CLEAR }));

  it('-c, -g, -b, --info: what it is', async () => {
    assert.match(await ioctl('-c'), /0x17fff$/);
    assert.match(await ioctl('-g'), /: 0x0$/);
    assert.match(await ioctl('--info', '3'), /"TPMSpecification".*"TPMAttributes"/);
    assert.match(await ioctl('-b', '0'), /4096.*\n.*2808.*\n.*4096/);
    await refused('-b', '3000');
    await ioctl('--stop');
    assert.match(await ioctl('-b', '3000'), /3000/);
  });

  it('-b: the guest is told what its interface can take', async () => {
    const size = async (property: number): Promise<number | undefined> => {
      const ask = frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property, propertyCount: 1 });
      const list = parse(GetCapability, await test.execute(ask)).out?.capabilityData.data as TPMS_TAGGED_PROPERTY[];
      return list[0]?.value;
    };
    assert.equal(await size(TPM_PT.MAX_COMMAND_SIZE), 4096);
    await ioctl('--stop');
    await ioctl('-b', '4000');
    await ioctl('-i');
    await start();
    assert.equal(await size(TPM_PT.MAX_COMMAND_SIZE), 4000);
    assert.equal(await size(TPM_PT.MAX_RESPONSE_SIZE), 4000);
    assert.equal(await size(TPM_PT.MAX_OBJECT_CONTEXT), 4000 - 28);
    await ioctl('-i');
    await start();
    assert.equal(await size(TPM_PT.MAX_RESPONSE_SIZE), 4000);
  });

  it('-i, --stop, -s: power', async () => {
    await test.execute(extend);
    await ioctl('-i');
    assert.equal(await pcr(16), TPM_RC.INITIALIZE.toString(16));
    assert.equal(codeOf(await start()), TPM_RC.SUCCESS);
    await ioctl('--stop');
    assert.equal(test.tpm.powered, false);
    assert.equal(await pcr(16), TPM_RC.FAILURE.toString(16));
    await ioctl('-i');
    assert.equal(codeOf(await start()), TPM_RC.SUCCESS);
    await ioctl('-s');
    assert.equal(test.tpm.powered, true);
    assert.equal(codeOf(await start()), TPM_RC.SUCCESS);
  });

  it('-l: the locality', async () => {
    await ioctl('-l', '3');
    assert.equal(endpoint.locality, 3);
    await refused('-l', '5');
    assert.equal(endpoint.locality, 3);
  });

  it('-h, -e, -r: a measured launch and the established bit', async () => {
    assert.match(await ioctl('-e'), /is 0$/);
    await ioctl('-h', 'launch');
    const first = await pcr(17);
    assert.match(await ioctl('-e'), /is 1$/);
    await refused('-r', '1');
    await ioctl('-r', '3');
    assert.match(await ioctl('-e'), /is 0$/);
    const child = spawn('swtpm_ioctl', ['--unix', control(), '-h', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
    child.stdin.end('launch');
    assert.deepEqual(await once(child, 'close'), [0, null]);
    assert.equal(await pcr(17), first);
    await ioctl('--stop');
    await refused('-h', 'launch');
    await refused('-e');
  });

  it('-C: cancel', async () => {
    await ioctl('-C');
    assert.notEqual(await pcr(0), TPM_RC.CANCELED.toString(16));
  });

  it('-v: volatile state over INIT', async () => {
    await test.execute(extend);
    const value = await pcr(16);
    await ioctl('-v');
    await ioctl('--stop');
    // -i sends INIT with the flag to delete it.
    await ioctl('-i');
    assert.equal(await pcr(16), value);
    await ioctl('--stop');
    await ioctl('-i');
    assert.equal(await pcr(16), TPM_RC.INITIALIZE.toString(16));
  });

  it('--save and --load: state blobs', async () => {
    await test.execute(extend);
    const value = await pcr(16);
    const file = (name: string): string => join(root, name);
    for (const part of ['permanent', 'volatile']) await ioctl('--save', part, file(part));
    await test.execute(extend);
    await ioctl('--stop');
    for (const part of ['permanent', 'volatile']) await ioctl('--load', part, file(part));
    await ioctl('-i');
    assert.equal(await pcr(16), value);
    const blob = await readFile(file('volatile'));
    assert.equal(blob.includes(Buffer.from('TPMXSTAT')), true);
    blob[blob.length - 1] = (blob.at(-1) ?? 0) ^ 1;
    await writeFile(file('edited'), blob);
    await ioctl('--stop');
    await refused('--load', 'volatile', file('edited'));
    assert.deepEqual(refusals, ['volatile: it is not authentic: it was changed, or made under another state key']);
    await ioctl('-i');
    assert.equal(codeOf(await start()), TPM_RC.SUCCESS);
  });
});
