// A guest of a real daemon whose PCRs and quotes tests verify, used with tpm2-tools as an unaware guest would.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Attestation } from '../../src/verifier/verify.js';
import type { Properties } from '../../src/statements/properties.js';
import type { NewStatement } from '../../src/statements/statement.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { BANKS, digestOf, ISSUER, newKey, statement } from '../properties/fixture.js';
import { RunningDaemon } from './running-daemon.js';
import { hashName } from '../../src/tpm/hash.js';

const run = promisify(execFile);

/** The key of the issuer that the daemon and the verifier trust. */
export const issuerKey = newKey();
export const issuerPem = createPublicKey(issuerKey.pem).export({ type: 'spki', format: 'pem' }).toString();

/** A quote and what belongs to it. */
export interface Quoted {
  readonly quote: Buffer;
  readonly signature: Buffer;
  readonly key: Buffer;
  readonly nonce: Buffer;
  readonly evidence: string;
}

/** A daemon with an embedded TPM that trusts {@link issuerKey}. */
export class AttestationBench {
  private constructor(readonly daemon: RunningDaemon) {}

  static async start(): Promise<AttestationBench> {
    const daemon = await RunningDaemon.create();
    const pem = join(daemon.root, 'issuer.pem');
    await writeFile(pem, issuerPem);
    const trust = [{ issuer: ISSUER, key: pem, allowed: ['os.*', 'tpm.*', 'secret.*'] }];
    daemon.config = { ...daemon.config, properties: { ...daemon.config.properties, trust, providers: ['digest', 'certified', 'log'] } };
    await daemon.start();
    return new AttestationBench(daemon);
  }

  async stop(): Promise<void> {
    await this.daemon.dispose();
  }

  at(name: string): string {
    return join(this.daemon.root, name);
  }

  /** Gives statements to the daemon. */
  async state(...envelopes: readonly string[]): Promise<string[]> {
    const { status, text } = await this.daemon.ask('POST', '/v1/properties/statements', { envelopes });
    assert.equal(status, 201, text);
    return (JSON.parse(text) as { added: string[] }).added;
  }

  async guest(name: string, policy?: object): Promise<AttestedGuest> {
    const body = { name, ...(policy !== undefined && { policy: JSON.stringify({ version: 1, ...policy }) }) };
    const { status, text } = await this.daemon.ask('POST', '/v1/guests', body);
    assert.equal(status, 201, text);
    const guest = new AttestedGuest(this, name);
    await guest.tool('startup', '-c');
    return guest;
  }
}

/** A statement of the trusted issuer. */
export function issued(texts: readonly string[], properties: Properties, changes: Partial<NewStatement> = {}): string {
  return statement(texts, properties, changes, issuerKey);
}

/** One guest. */
export class AttestedGuest {
  private quotes = 0;

  constructor(
    readonly bench: AttestationBench,
    readonly name: string,
  ) {}

  get tcti(): string {
    return `swtpm:path=${this.bench.daemon.config.runDir}/guests/${this.name}/tpm.sock`;
  }

  at(file: string): string {
    return this.bench.at(`${this.name}-${file}`);
  }

  async tool(name: string, ...args: readonly string[]): Promise<string> {
    return (await run(`tpm2_${name}`, args, { env: { ...process.env, TPM2TOOLS_TCTI: this.tcti } })).stdout;
  }

  /** Measures a text into a PCR, as firmware does. */
  async measure(pcr: number, text: string): Promise<void> {
    const digests = BANKS.map((bank) => `${hashName(bank)}=${digestOf(bank, text).toString('hex')}`);
    await this.tool('pcrextend', `${pcr.toString()}:${digests.join(',')}`);
  }

  /** An orderly power cycle of its machine, and TPM2_Startup. */
  async reboot(): Promise<void> {
    await this.tool('shutdown', '-c');
    assert.equal((await this.bench.daemon.ask('POST', `/v1/guests/${this.name}/reset`)).status, 200);
    await this.tool('startup', '-c');
  }

  /** Makes a persistent attestation key; gives its handle. */
  async attestationKey(kind: 'ecc' | 'rsa', scheme: string, handle: string): Promise<string> {
    const [ek, context] = [this.at('ek.ctx'), this.at('ak.ctx')];
    await this.tool('createek', '-c', ek, '-G', kind, '-u', this.at('ek.pub'));
    await this.tool('flushcontext', '-t');
    await this.tool('createak', '-C', ek, '-c', context, '-G', kind, '-g', 'sha256', '-s', scheme, '-u', this.at(`${handle}.pub`));
    await this.tool('flushcontext', '-t');
    await this.tool('evictcontrol', '-C', 'o', '-c', context, handle);
    await this.tool('flushcontext', '-t');
    return handle;
  }

  /** Quotes with tpm2_quote, and gets the evidence. */
  async quote(handle: string, pcrs: string, nonce: Buffer, ...options: readonly string[]): Promise<Quoted> {
    const [message, signature] = [`q${(++this.quotes).toString()}.msg`, `q${this.quotes.toString()}.sig`].map((file) => this.at(file));
    assert.ok(message !== undefined && signature !== undefined);
    const common = ['-c', handle, '-l', pcrs, '-q', nonce.toString('hex'), '-m', message, '-s', signature, '-g', 'sha256'];
    await this.tool('quote', ...common, ...options);
    return {
      quote: await readFile(message),
      signature: await readFile(signature),
      key: await readFile(this.at(`${handle}.pub`)),
      nonce,
      evidence: await this.evidence(),
    };
  }

  /** The evidence as JSON text, for tpm2_quote or for a provider's vector. */
  async evidence(provider?: string): Promise<string> {
    const query = provider === undefined ? '' : `?provider=${provider}`;
    const { status, text } = await this.bench.daemon.ask('GET', `/v1/guests/${this.name}/evidence${query}`);
    assert.equal(status, 200, text);
    return JSON.stringify((JSON.parse(text) as { evidence: unknown }).evidence);
  }
}

/** What a verifier gets, with what it knows itself. */
export function attestation(quoted: Quoted, changes: Partial<Attestation> = {}): Attestation {
  return {
    ...quoted,
    roots: [{ key: issuerKey, allowed: ['os.*', 'tpm.*'] }],
    revocations: [],
    time: Date.now(),
    required: [],
    trustGuestPolicy: true,
    ...changes,
  };
}

/** SHA-256 of a text in hexadecimal. */
export const sha256Of = (text: string): string => digestOf(TPM_ALG.SHA256, text).toString('hex');
