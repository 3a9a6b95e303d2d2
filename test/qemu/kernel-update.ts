// The scenario of property-based sealing and attestation: two machines seal to what they booted, then boot loader and kernel are updated.
// One machine's PCRs speak of properties, the other's of digests. Used by the test and by scripts/demo-properties.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startTpmux, tpmux, type Result, type Running } from '../cli/command-line.js';
import { bootLoader, makeBootDisk, rebuilt } from './boot-disk.js';
import { debianKernel, hmacKernel } from './debian-kernel.js';
import { initramfs } from './initramfs.js';
import { Machine } from './machine.js';

const ISSUER = 'build@example.org';
const SEALED = '0x81000010';
const AK = '0x81010010';
const PCRS = 'sha256:4,7';
const EVENT_LOG = '/sys/kernel/security/tpm0/binary_bios_measurements';
const SECRET = 'the key of the disk';

const POLICY = `version: 1
present:
  0-7: certified
  default: digest
unknown: value
attest:
  digests: hide
`;

/** Guests: one whose PCRs 0 to 7 are of properties, and an ordinary one. */
export const GUESTS = { properties: 'properties', digests: 'digests' } as const;
/** A: what was sealed under. B: an update with statements. C: without. */
export type System = 'A' | 'B' | 'C';

/** Two guests on one chip, three systems, and an issuer of statements. */
export class KernelUpdate {
  private daemon: Running | undefined;
  private machine: Machine | undefined;
  private boots = 0;
  private attestations = 0;

  private constructor(
    private readonly root: string,
    /** What the kernels are, for people. */
    readonly systems: Readonly<Record<System, string>>,
  ) {}

  /** Fetches what boots, makes the disks and the issuer's key, starts the daemon and creates the guests; all in a directory of its own. */
  static async prepare(root: string): Promise<KernelUpdate> {
    const [debian, newer, loader, initrd] = [await debianKernel(), await hmacKernel(), await bootLoader(), await initramfs()];
    const at = (name: string): string => join(root, name);
    const kernelB = typeof newer === 'string' ? await rebuilt(debian.image, at('kernel-b')) : newer.image;
    const loaderB = await rebuilt(loader, at('boot-loader-b'));
    const kernelC = await rebuilt(debian.image, at('kernel-c'));
    await makeBootDisk(at('A'), { bootLoader: loader, kernel: debian.image, initrd });
    await makeBootDisk(at('B'), { bootLoader: loaderB, kernel: kernelB, initrd });
    await makeBootDisk(at('C'), { bootLoader: loaderB, kernel: kernelC, initrd });
    const update = new KernelUpdate(root, {
      A: "systemd-boot and Debian's kernel",
      B: `systemd-boot of another build and ${typeof newer === 'string' ? 'that kernel of another build' : "the kernel of Debian's backports"}`,
      C: 'the same boot loader and a kernel that nobody vouches for',
    });
    await update.begin();
    return update;
  }

  path(name: string): string {
    return join(this.root, name);
  }

  /** Runs a command of tpmux. Rejects if it fails. */
  async tpmux(...args: string[]): Promise<string> {
    const { code, out, err } = await this.tryTpmux(...args);
    if (code !== 0) throw new Error(`tpmux ${args.join(' ')} ended with ${String(code)}: ${err}`);
    return out;
  }

  tryTpmux(...args: string[]): Promise<Result> {
    return tpmux(args, { TPMUX_RUN_DIR: this.path('run') });
  }

  /** Boots a guest's machine from a system's disk, runs `use` when it is there, and powers it off. */
  async boot<T>(guest: string, system: System, use: (machine: Machine) => Promise<T>): Promise<T> {
    const directory = this.path(`machine${(++this.boots).toString()}`);
    await mkdir(directory);
    const control = this.path(`run/guests/${guest}/tpm.sock.ctrl`);
    const machine = await Machine.start({
      firmware: 'ovmf',
      device: 'tpm-crb',
      control,
      directory,
      memory: 512,
      bootDisk: this.path(system),
    });
    this.machine = machine;
    await machine.booted();
    await machine.run('export TPM2TOOLS_TCTI=device:/dev/tpmrm0');
    const result = await use(machine);
    machine.send('poweroff -f');
    await machine.ended();
    return result;
  }

  /** Statements about what a good machine measured besides boot loader and kernel, from its event log. */
  async vouchForFirmware(machine: Machine): Promise<void> {
    await writeFile(this.path('event.log'), await copyOut(machine, EVENT_LOG));
    const common = [this.path('event.log'), ...this.signing('machine.firmware=known')];
    await this.add('firmware', 'from-eventlog', ...common, '--pcr', '7');
    await this.add('boot', 'from-eventlog', ...common, '--pcr', '4', '--event', 'EV_EFI_ACTION', '--event', 'EV_SEPARATOR');
  }

  /** Statements about boot loader and kernel of a system; the identifiers of these. */
  async vouchFor(system: System): Promise<{ bootLoader: string; kernel: string }> {
    const disk = this.path(system);
    const issue = (name: string, program: string): Promise<string> =>
      this.add(`${name}-${system}`, 'issue', ...this.signing(`os.part=${name}`, 'os.level=3'), '--efi', join(disk, program));
    return { bootLoader: await issue('boot-loader', 'EFI/BOOT/BOOTX64.EFI'), kernel: await issue('kernel', 'vmlinuz') };
  }

  /** Quotes PCRs 4 and 7 in the machine, and has `tpmux verify` appraise it with the issuer's public key, the machine's AK and the nonce alone. */
  async attest(guest: string, machine: Machine, extra: readonly string[] = []): Promise<Attested> {
    const name = `attestation${(++this.attestations).toString()}`;
    const file = (ending: string): string => this.path(`${name}.${ending}`);
    const nonce = randomBytes(16).toString('hex');
    const { message, signature } = await quote(machine, nonce);
    await writeFile(file('message'), message);
    await writeFile(file('signature'), signature);
    await this.tpmux('evidence', guest, '--out', file('evidence'));
    const quoted = ['--quote', file('message'), '--signature', file('signature'), '--ak', this.path('ak.pub'), '--nonce', nonce];
    const trust = `${ISSUER}=${this.path('issuer.pub')}#os.*,machine.*,tpm.*`;
    const options = [
      ...quoted,
      '--evidence',
      file('evidence'),
      '--trust',
      trust,
      '--trust-guest-policy',
      '--require',
      '4:os.level=3',
      ...extra,
    ];
    return { ...(await this.appraise(options)), evidence: file('evidence'), options };
  }

  /** What the verifier says. */
  async appraise(options: readonly string[]): Promise<Pick<Attested, 'verdict' | 'text'>> {
    const { out, err } = await this.tryTpmux('verify', ...options);
    return { verdict: JSON.parse((await this.tryTpmux('verify', ...options, '--json')).out) as Attested['verdict'], text: out + err };
  }

  /** Writes the issuer's revocation list; its path. */
  async revoke(id: string): Promise<string> {
    const list = this.path('revoked.json');
    await this.tpmux(
      'property',
      'revoke',
      id,
      '--key',
      this.path('issuer.key'),
      '--issuer',
      ISSUER,
      '--reason',
      'CVE-2026-1',
      '--out',
      list,
    );
    return list;
  }

  /** Kills what still runs. */
  async close(): Promise<void> {
    await this.machine?.kill();
    this.daemon?.child.kill('SIGTERM');
    await this.daemon?.result;
  }

  private async begin(): Promise<void> {
    const key = generateKeyPairSync('ed25519');
    await writeFile(this.path('issuer.key'), key.privateKey.export({ format: 'pem', type: 'pkcs8' }));
    await writeFile(this.path('issuer.pub'), key.publicKey.export({ format: 'pem', type: 'spki' }));
    await writeFile(this.path('policy.yaml'), POLICY);
    const trust = [{ issuer: ISSUER, key: this.path('issuer.pub'), allowed: ['os.*', 'machine.*', 'tpm.*'] }];
    await writeFile(this.path('tpmux.yaml'), JSON.stringify({ properties: { trust } }));
    const places = ['--state-dir', this.path('state'), '--run-dir', this.path('run')];
    this.daemon = startTpmux(['serve', '--embedded-tpm', '--config', this.path('tpmux.yaml'), ...places]);
    await once(this.daemon.child.stdout ?? this.daemon.child, 'data');
    await this.tpmux('guest', 'create', GUESTS.properties, '--policy', this.path('policy.yaml'));
    await this.tpmux('guest', 'create', GUESTS.digests);
  }

  private signing(...properties: string[]): string[] {
    return [
      '--hidden',
      '--key',
      this.path('issuer.key'),
      '--issuer',
      ISSUER,
      ...properties.flatMap((property) => ['--property', property]),
    ];
  }

  /** Makes statements with a command of `property`, and adds them; identifier of the first. */
  private async add(name: string, ...command: string[]): Promise<string> {
    const file = this.path(`${name}.jsonl`);
    await this.tpmux('property', ...command, '--out', file);
    return (await this.tpmux('property', 'add', file)).split('\n')[0] ?? '';
  }
}

/** What {@link KernelUpdate.attest} gives. */
export interface Attested {
  /** Of `tpmux verify --json`. */
  readonly verdict: { readonly accepted: boolean; readonly reason?: string; readonly why?: string };
  /** What the verifier prints. */
  readonly text: string;
  /** Path of the evidence. */
  readonly evidence: string;
  readonly options: readonly string[];
}

/** A file of the machine. */
async function copyOut(machine: Machine, file: string): Promise<Buffer> {
  return Buffer.from((await machine.run(`od -An -v -tx1 ${file}`)).replaceAll(/\s/g, ''), 'hex');
}

/** PCRs 4 and 7 as the machine sees them. */
export async function readPcrs(machine: Machine): Promise<readonly [pcr4: string, pcr7: string]> {
  const text = await machine.run(`tpm2 pcrread ${PCRS}`);
  const value = (index: number): string => new RegExp(`${index.toString()} *: 0x([0-9A-F]+)`).exec(text)?.[1]?.toLowerCase() ?? '';
  return [value(4), value(7)];
}

/** Seals a secret to PCRs 4 and 7 as any program does, and keeps it in the TPM. */
export async function seal(machine: Machine): Promise<void> {
  await machine.run(`tpm2 createprimary -Q -C o -c primary.ctx && tpm2 createpolicy -Q --policy-pcr -l ${PCRS} -L policy`);
  await machine.run(`printf '${SECRET}' | tpm2 create -Q -C primary.ctx -L policy -i - -u sealed.pub -r sealed.priv`);
  await machine.run('tpm2 load -Q -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx');
  await machine.run(`tpm2 evictcontrol -Q -C o -c sealed.ctx ${SEALED}`);
}

/** Whether the secret comes out. Rejects if the reason that it does not is not the policy. */
export async function unseals(machine: Machine): Promise<boolean> {
  const text = await machine.run(`tpm2 unseal -c ${SEALED} -p pcr:${PCRS} || true`);
  if (text === SECRET) return true;
  if (!text.includes('policy check failed')) throw new Error(`unsealing said: ${text}`);
  return false;
}

/** Makes an attestation key in the machine; its TPM2B_PUBLIC. */
export async function makeAk(machine: Machine): Promise<Buffer> {
  await machine.run('tpm2 createek -Q -G ecc -c ek.ctx && tpm2 createak -Q -C ek.ctx -G ecc -g sha256 -s ecdsa -c ak.ctx');
  await machine.run(`tpm2 evictcontrol -Q -C o -c ak.ctx ${AK} && tpm2 readpublic -Q -c ${AK} -o ak.pub`);
  return copyOut(machine, 'ak.pub');
}

/** A quote of PCRs 4 and 7 as any program makes it. */
async function quote(machine: Machine, nonce: string): Promise<{ message: Buffer; signature: Buffer }> {
  await machine.run(`tpm2 quote -Q -c ${AK} -l ${PCRS} -q ${nonce} -m message -s signature`);
  return { message: await copyOut(machine, 'message'), signature: await copyOut(machine, 'signature') };
}
