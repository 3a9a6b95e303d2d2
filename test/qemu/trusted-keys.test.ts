// Linux's trusted keys in a guest (security/keys/trusted-keys/trusted_tpm2.c): they are sealed below a persistent key, and their blobs outlive
// the machine.
import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { PolicyPassword, StartAuthSession } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE } from '../../src/tpm/constants/index.js';
import { policyDigest } from '../../src/tpm/policy-digest.js';
import { frame, none } from '../support/frames.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { trustedKeyKernel, type Kernel } from './debian-kernel.js';
import { debianProgram } from './debian-program.js';
import { initramfsWith, placeProgram } from './initramfs.js';
import { Machine, missingForQemu } from './machine.js';

const PARENT = '0x81000001';
const AUTH = '5a'.repeat(20);
const POLICY = policyDigest([[PolicyPassword, {}]], TPM_ALG.SHA256).toString('hex');
const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;

/** A key that is made in one boot and loaded in the next. */
interface Trusted {
  readonly name: string;
  readonly size: number;
  readonly policy: boolean;
  blob?: string;
}

describe('trusted keys of a Linux guest', function () {
  this.timeout(400_000);
  let daemon: RunningDaemon;
  let machine: Machine | undefined;
  let kernel: Kernel;
  let initrd: string;
  const keys: Trusted[] = [32, 64].flatMap((size) => [false, true].map((policy) => ({ name: `k${size.toString()}`, size, policy })));

  before(async function () {
    const missing = missingForQemu();
    const found = missing === '' ? trustedKeyKernel() : `${missing} not found (scripts/setup installs what is needed)`;
    if (typeof found === 'string') {
      console.error(`    trusted keys are not tested: ${found}`);
      this.skip();
    }
    kernel = found;
    const keyctl = await debianProgram('keyutils', 'bin/keyctl');
    daemon = await RunningDaemon.create();
    await daemon.start();
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'linux' })).status, 201);
    initrd = await initramfsWith(join(daemon.root, 'initramfs'), async (root) => {
      await placeProgram(root, keyctl);
      await mkdir(join(root, 'bin'), { recursive: true });
      await copyFile(keyctl, join(root, 'bin', basename(keyctl)));
    });
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') {
      console.error(daemon.log.slice(-20).join('\n'));
      console.error(await machine?.run('dmesg | tail -n 20', 60).catch(String));
    }
    await machine?.kill();
    machine = undefined;
  });
  after(async () => {
    await (daemon as RunningDaemon | undefined)?.dispose();
  });

  const boot = async (which: string): Promise<Machine> => {
    const directory = join(daemon.root, which);
    await mkdir(directory);
    const { control } = (await daemon.ask('GET', '/v1/guests/linux')).body;
    machine = await Machine.start({ firmware: 'seabios', device: 'tpm-crb', control, directory, kernel, initrd, memory: 768 });
    await machine.booted();
    return machine;
  };

  /** Sends a command to the TPM from within; the answer in hex. */
  const send = async (inside: Machine, command: Buffer): Promise<string> => {
    const bytes = [...command].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
    return inside.run(`printf '${bytes}' | tpm2 send | hexdump -v -e '1/1 "%02x"'`);
  };

  /** A policy session that is satisfied by the password; its handle. */
  const startPolicy = async (inside: Machine): Promise<number> => {
    const request = { tpmKey: TPM_RH.NULL, bind: TPM_RH.NULL, nonceCaller: Buffer.alloc(32, 1), encryptedSalt: none };
    const start = { ...request, sessionType: TPM_SE.POLICY, symmetric: NO_CIPHER, authHash: TPM_ALG.SHA256 } as const;
    const policySession = Number.parseInt((await send(inside, frame(StartAuthSession, start, []))).slice(20, 28), 16);
    assert.match(await send(inside, frame(PolicyPassword, { policySession }, [])), /^80010000000a00000000/);
    return policySession;
  };

  it('are made, with and without a policy', async () => {
    const inside = await boot('first');
    await inside.run(`tpm2 createprimary -Q -C o -G ecc -c p.ctx && tpm2 evictcontrol -Q -C o -c p.ctx ${PARENT}`);
    for (const key of keys) {
      const how = key.policy ? ` policydigest=${POLICY}` : '';
      const options = `keyhandle=${PARENT} blobauth=${AUTH} hash=sha256${how}`;
      key.blob = await inside.run(
        `id=$(keyctl add trusted ${key.name}${String(key.policy)} "new ${key.size.toString()} ${options}" @u) && keyctl pipe $id`,
      );
      assert.match(key.blob, /^[0-9a-f]{300,1024}$/);
    }
  });

  it('are loaded after a reboot, and are what they were', async () => {
    const inside = await boot('second');
    for (const { name, policy, blob } of keys) {
      const how = policy ? ` policyhandle=0x${(await startPolicy(inside)).toString(16).padStart(8, '0')}` : '';
      const id = await inside.run(`keyctl add trusted ${name} "load ${blob ?? ''} keyhandle=${PARENT} blobauth=${AUTH}${how}" @u`);
      assert.match(id, /^\d+$/);
      assert.equal(await inside.run(`keyctl pipe ${id}`), blob);
      await inside.run(`keyctl unlink ${id} @u`);
    }
  });

  it('are refused with another authorization value', async () => {
    const inside = await boot('third');
    const [first] = keys;
    await assert.rejects(
      inside.run(`keyctl add trusted no "load ${first?.blob ?? ''} keyhandle=${PARENT} blobauth=${'00'.repeat(20)}" @u`),
      /not permitted/,
    );
  });
});
