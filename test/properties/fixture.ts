// What tests of properties share: issuers, statements, matrices.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Catalog, type CatalogOptions } from '../../src/statements/catalog.js';
import { GuestProviders, type GuestProviderOptions, type HostProviders } from '../../src/properties/provider-set/guest-providers.js';
import type { ProviderSet } from '../../src/properties/provider-set/provider-set.js';
import { PcrMatrix } from '../../src/properties/matrix/matrix.js';
import type { SavedMatrix } from '../../src/properties/matrix/saved-matrix.js';
import type { HostEvidence } from '../../src/properties/providers/platform.js';
import type { Measurement } from '../../src/properties/providers/provider.js';
import type { Properties } from '../../src/statements/properties.js';
import { readPrivateKey, type SigningKey } from '../../src/statements/signing-keys.js';
import { issueStatement, type NewStatement, type Subject } from '../../src/statements/statement.js';
import { Trust, type TrustRoot } from '../../src/statements/trust.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { hash, hashName } from '../../src/tpm/hash.js';

export const BANKS = [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512] as const;
export const ISSUER = 'build@example.org';

const kinds = {
  ed25519: () => generateKeyPairSync('ed25519'),
  p256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  rsa: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
} as const;
export type TestKeyKind = keyof typeof kinds;
export const KEY_KINDS = Object.keys(kinds) as TestKeyKind[];

/** A new key of an issuer. */
export function newKey(kind: TestKeyKind = 'ed25519'): SigningKey & { readonly pem: string } {
  const pem = kinds[kind]().privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { ...readPrivateKey(pem), pem };
}

export const key = newKey();

export function trustIn(...roots: readonly Partial<TrustRoot>[]): Trust {
  return new Trust(roots.map((root) => ({ issuer: ISSUER, key, allowed: ['*'], ...root })));
}

/** A thing that is called by a text, by its digests in all banks. */
export function subject(text: string): Subject {
  return { name: text, digest: Object.fromEntries(BANKS.map((bank) => [hashName(bank), digestOf(bank, text).toString('hex')])) };
}

export function digestOf(bank: number, text: string): Buffer {
  return hash(bank, Buffer.from(text));
}

/** A signed statement that is valid now. */
export function statement(texts: readonly string[], properties: Properties, changes: Partial<NewStatement> = {}, by = key): string {
  const now = Date.now();
  const validity = { notBefore: new Date(now - 60_000), notAfter: new Date(now + 3_600_000) };
  return issueStatement({ subjects: texts.map(subject), issuer: ISSUER, properties, ...validity, ...changes }, by);
}

/** A measurement of a text in all banks. */
export function measured(index: number, text: string, extra: Partial<Measurement> = {}): Measurement {
  return { index, locality: 0, digests: BANKS.map((bank) => ({ bank, digest: digestOf(bank, text) })), ...extra };
}

/** The PCRs of a host with two banks. */
export const host: HostEvidence = {
  pcrs: new Map(
    [TPM_ALG.SHA1, TPM_ALG.SHA256].map((bank) => [bank, Array.from({ length: 24 }, (_, i) => digestOf(bank, `host ${i.toString()}`))]),
  ),
};

/** A directory that is removed after the tests of the present suite. */
export function temporaryDirectory(): () => string {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-properties-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });
  return () => directory;
}

/** A catalog with these statements, in a directory that goes with the process. */
export async function catalogOf(statements: readonly string[], changes: Partial<CatalogOptions> = {}): Promise<Catalog> {
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-properties-'));
  const catalog = await Catalog.open({ directory, trust: trustIn({}), ...changes });
  for (const one of statements) await catalog.add(one);
  process.once('exit', () => {
    rmSync(directory, { recursive: true, force: true });
  });
  return catalog;
}

export const guest = { id: '00000000-0000-4000-8000-000000000000', name: 'test' };

/** The providers of a test's guest. */
export function providersOf(
  statements: Catalog,
  options: Partial<GuestProviderOptions> = {},
  changes: Partial<HostProviders> = {},
): GuestProviders {
  const all = { statements, host, packages: new Map(), ...changes };
  return new GuestProviders(all, { guest, names: ['digest', 'certified', 'platform', 'log'], ...options });
}

/** A matrix as a guest has it after a reset. */
export function matrixOf(providers: GuestProviders, banks: readonly number[] = BANKS): PcrMatrix {
  const matrix = new PcrMatrix(24, banks, providers.begin());
  for (let index = 0; index < 24; index++) {
    if (index === 0) matrix.setLocality(0, 3);
    else matrix.fill(index, index >= 17 && index <= 22 ? 0xff : 0);
  }
  return matrix;
}

/** The providers of the present power cycle. */
export function setOf(providers: GuestProviders): ProviderSet {
  return providers.current ?? assert.fail('no providers');
}

/** What a guest's matrix goes on from. */
export function savedOf(matrix: PcrMatrix, providers: GuestProviders): SavedMatrix {
  const set = setOf(providers);
  return { vectors: matrix.save(), choice: set.choice, providers: set.saveStates(), log: set.log?.save() ?? Buffer.alloc(0) };
}

/** The matrix of a guest that goes on from there; all PCRs are as they were. */
export function goingOn(saved: SavedMatrix, providers: GuestProviders, banks: readonly number[] = BANKS): PcrMatrix {
  const matrix = new PcrMatrix(24, banks, providers.goOn(saved));
  matrix.restore(saved.vectors, () => true);
  return matrix;
}
