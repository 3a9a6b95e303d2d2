// State keys that are sealed to the host's PCRs, or to what an authority signed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pcrChoice, readApprovedPolicies, readSealTo } from '../../../src/host/seal-to.js';
import { decodeKeyBlobs, encodeKeyBlobs } from '../../../src/guests/key-blobs.js';
import { HostPolicyError } from '../../../src/hardware/chip/errors.js';
import type { GuestKeyBlobs, Hardware, HardwareOptions } from '../../../src/hardware/hardware.js';
import { currentPolicy, pcrPolicyDigest, policyToSign } from '../../../src/hardware/host/sealing.js';
import { PCR_Extend, PCR_Read, Unseal } from '../../../src/tpm/commands/index.js';
import { TPM_ALG } from '../../../src/tpm/constants/index.js';
import { Bench, makeKey, signs, inTurn } from '../fixture.js';

const PCRS = [7, 16];

describe('a state key that is sealed to the host', function () {
  this.timeout(30_000);
  let bench: Bench;
  let directory: string;
  const responses: Buffer[] = [];
  before(async () => {
    bench = await Bench.start({ onResponse: (response) => responses.push(Buffer.from(response)) });
    directory = await mkdtemp(join(tmpdir(), 'tpmux-policy-'));
    const inDirectory = { cwd: directory, stdio: 'ignore' } as const;
    for (const [name, algorithm, option] of [
      ['rsa', 'RSA', 'rsa_keygen_bits:2048'],
      ['ec', 'EC', 'ec_paramgen_curve:P-256'],
    ] as const) {
      execFileSync('openssl', ['genpkey', '-algorithm', algorithm, '-pkeyopt', option, '-out', `${name}.pem`], inDirectory);
      execFileSync('openssl', ['pkey', '-in', `${name}.pem`, '-pubout', '-out', `${name}.pub`], inDirectory);
    }
  });
  after(async () => {
    await bench.stop();
    await rm(directory, { recursive: true });
  });

  /** What a firmware update, or another system, does to the host's PCRs. */
  const extendHost = (hardware: Hardware): Promise<unknown> =>
    inTurn(hardware, (turn) =>
      turn.execute(PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] }),
    );
  const reopen = async (before: Hardware, options: Partial<HardwareOptions>): Promise<Hardware> => {
    await before.close();
    return await bench.open({ hostRecords: before.hostRecords, ...options });
  };
  const opens = async (hardware: Hardware, identity: GuestKeyBlobs): Promise<Buffer> => {
    // As it is stored.
    const { stateKey, chip } = await hardware.openGuest(decodeKeyBlobs('web1', encodeKeyBlobs(identity)), 'web1');
    assert.ok(await signs(chip, await makeKey(chip)));
    await chip.close();
    return stateKey;
  };
  /** Signs the PCRs as they are, as docs/operations.md tells. */
  const approve = async (hardware: Hardware, key: string, file: string): Promise<void> => {
    const policy = await hardware.pcrPolicy(pcrChoice('sha256', PCRS));
    await writeFile(join(directory, 'policy.bin'), policyToSign(policy));
    execFileSync('openssl', ['dgst', '-sha256', '-sign', `${key}.pem`, '-out', 'policy.sig', 'policy.bin'], { cwd: directory });
    const signature = (await readFile(join(directory, 'policy.sig'))).toString('base64');
    const earlier = await readFile(join(directory, file), 'utf8').catch(() => '');
    const entry = `- {bank: sha256, pcrs: [${PCRS.join(', ')}], policy: "${policy.toString('hex')}", signature: "${signature}"}\n`;
    await writeFile(join(directory, file), earlier + entry);
  };

  it('is unsealed while the PCRs are the same, and refused when they are not', async () => {
    let hardware = await bench.open({ sealTo: { kind: 'pcrs', choice: pcrChoice('sha256', PCRS) } });
    const identity = await hardware.createGuestKeys('web1');
    const stateKey = await opens(hardware, identity);
    hardware = await reopen(hardware, {});
    assert.deepEqual(await opens(hardware, identity), stateKey, 'whatever new guests are sealed to');
    await extendHost(hardware);
    await assert.rejects(
      opens(hardware, identity),
      (error) => error instanceof HostPolicyError && /PCRs are not those/.test(error.message),
    );
    const { sealedTo: _, ...withoutPolicy } = identity;
    await assert.rejects(opens(hardware, withoutPolicy), /AUTH_UNAVAILABLE|POLICY/, 'not without the policy either');
    await hardware.close();
  });

  it('crosses the bus encrypted', async () => {
    const hardware = await bench.open({ sealTo: { kind: 'pcrs', choice: pcrChoice('sha256', PCRS) } });
    const identity = await hardware.createGuestKeys('web1');
    bench.relay.clear();
    responses.length = 0;
    const stateKey = await opens(hardware, identity);
    const unseals = bench.relay.commands.filter((command) => command.readUInt32BE(6) === Unseal.code);
    assert.equal(unseals.length, 1);
    assert.ok(responses.length > 0 && responses.every((response) => !response.includes(stateKey)));
    await hardware.close();
  });

  it('is sealed anew for other PCRs, and to nobody', async () => {
    let hardware = await bench.open({ sealTo: { kind: 'pcrs', choice: pcrChoice('sha256', PCRS) } });
    let identity = await hardware.createGuestKeys('web1');
    const stateKey = await opens(hardware, identity);
    hardware = await reopen(hardware, {});
    identity = await hardware.resealGuest(identity, 'web1');
    await extendHost(hardware);
    assert.deepEqual(await opens(hardware, identity), stateKey);
    hardware = await reopen(hardware, { sealTo: { kind: 'pcrs', choice: pcrChoice('sha256', PCRS) } });
    identity = await hardware.resealGuest(identity, 'web1');
    assert.deepEqual(await opens(hardware, identity), stateKey);
    await extendHost(hardware);
    await assert.rejects(hardware.resealGuest(identity, 'web1'), HostPolicyError);
    await hardware.close();
  });

  for (const key of ['rsa', 'ec']) {
    it(`is unsealed to PCRs that the authority signed, also later ones (${key})`, async () => {
      const policySignature = join(directory, `${key}.yaml`);
      const sealTo = await readSealTo({ sealTo: { authority: join(directory, `${key}.pub`) } });
      const hardware = await bench.open({ sealTo, approvedPolicies: () => readApprovedPolicies({ policySignature }) });
      const identity = await hardware.createGuestKeys('web1');
      await writeFile(policySignature, '[]');
      await assert.rejects(
        opens(hardware, identity),
        (error) => error instanceof HostPolicyError && /authority approved/.test(error.message),
      );
      await writeFile(policySignature, '');
      await approve(hardware, key, `${key}.yaml`);
      const stateKey = await opens(hardware, identity);
      await extendHost(hardware);
      await assert.rejects(opens(hardware, identity), HostPolicyError);
      await approve(hardware, key, `${key}.yaml`);
      assert.deepEqual(await opens(hardware, identity), stateKey, 'after an update that was approved');
      await hardware.close();
    });
  }

  it('is not unsealed to what somebody else signed', async () => {
    const policySignature = join(directory, 'other.yaml');
    const sealTo = await readSealTo({ sealTo: { authority: join(directory, 'rsa.pub') } });
    const hardware = await bench.open({ sealTo, approvedPolicies: () => readApprovedPolicies({ policySignature }) });
    const identity = await hardware.createGuestKeys('web1');
    execFileSync('openssl', ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'other.pem'], {
      cwd: directory,
      stdio: 'ignore',
    });
    await approve(hardware, 'other', 'other.yaml');
    await assert.rejects(
      opens(hardware, identity),
      (error) => error instanceof HostPolicyError && /not the authority's/.test(error.message),
    );
    await hardware.close();
  });

  it('has a policy that can be computed from values', async () => {
    const hardware = await bench.open();
    const choice = pcrChoice('sha256', PCRS);
    const select = Buffer.from([0x80, 0x00, 0x01]);
    const { now, values } = await inTurn(hardware, async (turn) => {
      const read = await turn.execute(PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect: select }] });
      return { values: read.pcrValues.map((value) => Buffer.from(value)), now: await currentPolicy(turn, choice) };
    });
    assert.deepEqual(pcrPolicyDigest(choice, values), now);
    await hardware.close();
  });
});
