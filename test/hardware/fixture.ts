// A Hardware on a real swtpm, behind a relay that counts what reaches it.
import { createHash, createPublicKey, randomBytes, verify, type KeyObject } from 'node:crypto';
import { Account } from '../../src/hardware/chip/usage.js';
import type { GuestChip } from '../../src/hardware/guest/guest-chip.js';
import { Hardware, type HardwareOptions } from '../../src/hardware/hardware.js';
import type { Turn } from '../../src/hardware/turns/turn.js';
import type { Turns } from '../../src/hardware/turns/turns.js';
import type { LoadableKey } from '../../src/hardware/turns/slots.js';
import { guestKeyPublic, type AsymmetricPublic } from '../../src/hardware/host/templates.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { decode } from '../../src/tpm/schema.js';
import { TPMT_PUBLIC, type TPMT_SIGNATURE } from '../../src/tpm/structures/index.js';
import { startRelay, type Relay, type RelayOptions } from '../support/relay.js';
import { startSwtpm, type Swtpm, type SwtpmOptions } from '../support/swtpm.js';

export const EMPTY = Buffer.alloc(0);
export const NO_SCHEME = { scheme: TPM_ALG.NULL, details: null } as const;
export const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
export const ECDSA_SHA256 = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;

const commandNames = new Map<number, string>(Object.entries(TPM_CC).map(([name, code]) => [code, name]));

/** A log that keeps its lines. */
export class TestLog {
  readonly lines: string[] = [];
  info(line: string): void {
    this.lines.push(line);
  }
  warn(line: string): void {
    this.lines.push(line);
  }
}

/** A swtpm, a relay in front of it, and Hardware on that. */
export class Bench {
  readonly log = new TestLog();
  readonly swtpm: Swtpm;
  readonly relay: Relay;
  private opened: Hardware[] = [];

  private constructor(swtpm: Swtpm, relay: Relay) {
    this.swtpm = swtpm;
    this.relay = relay;
  }

  static async start(relay: RelayOptions = {}, swtpm: SwtpmOptions = {}): Promise<Bench> {
    const chip = await startSwtpm(swtpm);
    return new Bench(chip, await startRelay(chip, relay));
  }

  async open(options: Partial<HardwareOptions> = {}): Promise<Hardware> {
    const hardware = await Hardware.open({ tcti: this.relay.tcti, ...options }, this.log);
    this.opened.push(hardware);
    return hardware;
  }

  async stop(): Promise<void> {
    for (const hardware of this.opened) await hardware.close().catch(() => undefined);
    await this.relay.stop();
    await this.swtpm.stop();
  }

  /** Names of the commands that `use` made the chip execute. */
  async commandsOf(use: () => Promise<unknown>): Promise<string[]> {
    this.relay.clear();
    await use();
    return this.relay.codes.map((code) => commandNames.get(code) ?? code.toString(16));
  }
}

/** The turns at the chip, which only what is inside `Hardware` takes for guests. */
export function turnsOf(hardware: Hardware): Turns {
  return Reflect.get(hardware, 'turns') as Turns;
}

/** Runs `job` in a turn of the host's. */
export function inTurn<T>(hardware: Hardware, job: (turn: Turn) => Promise<T>): Promise<T> {
  return turnsOf(hardware).run({ guest: new Account('test'), kind: 'host' }, job);
}

/** A guest with its identity made and opened. */
export async function newGuest(hardware: Hardware, name = 'guest'): Promise<{ chip: GuestChip; account: Account; stateKey: Buffer }> {
  return await hardware.openGuest(await hardware.createGuestKeys(name), name);
}

/** Template of a guest's unrestricted ECDSA key. */
export function eccTemplate(use: number = TPMA_OBJECT.sign, curveID: 3 | 4 = TPM_ECC_CURVE.NIST_P256): AsymmetricPublic {
  return {
    type: TPM_ALG.ECC,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | use,
    authPolicy: EMPTY,
    parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, curveID, kdf: NO_SCHEME },
    unique: { x: EMPTY, y: EMPTY },
  };
}

/** Template of a guest's RSA key. */
export function rsaTemplate(use: number, keyBits: 1024 | 2048 | 3072 | 4096 = 2048): AsymmetricPublic {
  return {
    type: TPM_ALG.RSA,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | use,
    authPolicy: EMPTY,
    parameters: { symmetric: NO_CIPHER, scheme: NO_SCHEME, keyBits, exponent: 0 },
    unique: EMPTY,
  };
}

/** A key of a guest's in the chip, and its public key for node:crypto. */
export interface TestKey {
  readonly key: LoadableKey;
  readonly publicKey: KeyObject;
}

/** Makes an ECDSA key directly in the chip. */
export async function makeKey(chip: GuestChip, template: AsymmetricPublic = eccTemplate()): Promise<TestKey> {
  const { publicArea, privateBlob } = await chip.create(guestKeyPublic(chip.rootPublic, template));
  const made = decode(TPMT_PUBLIC, publicArea);
  return { key: chip.key(made, privateBlob), publicKey: nodeKey(made) };
}

/** Signs random bytes with an ECDSA key in the chip and verifies that with node:crypto. */
export async function signs(chip: GuestChip, { key, publicKey }: TestKey): Promise<boolean> {
  const message = randomBytes(40);
  const digest = createHash('sha256').update(message).digest();
  return verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, p1363(await chip.sign(key, digest, ECDSA_SHA256), 32));
}

/** The public key as node:crypto has it. */
export function nodeKey(publicArea: TPMT_PUBLIC): KeyObject {
  if (publicArea.type === TPM_ALG.RSA) {
    const jwk = { kty: 'RSA', n: publicArea.unique.toString('base64url'), e: 'AQAB' };
    return createPublicKey({ key: jwk, format: 'jwk' });
  }
  if (publicArea.type !== TPM_ALG.ECC) throw new Error('not an asymmetric key');
  const crv = publicArea.parameters.curveID === TPM_ECC_CURVE.NIST_P384 ? 'P-384' : 'P-256';
  const { x, y } = publicArea.unique;
  return createPublicKey({ key: { kty: 'EC', crv, x: x.toString('base64url'), y: y.toString('base64url') }, format: 'jwk' });
}

/** `r || s` of an ECDSA signature. */
export function p1363(signature: TPMT_SIGNATURE, size: number): Buffer {
  if (signature.sigAlg !== TPM_ALG.ECDSA) throw new Error('not an ECDSA signature');
  const pad = (number: Buffer): Buffer => Buffer.concat([Buffer.alloc(size - number.length), number]);
  return Buffer.concat([pad(signature.signature.signatureR), pad(signature.signature.signatureS)]);
}
