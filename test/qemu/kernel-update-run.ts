// The scenario from beginning to end. What does not go as it must rejects with an AssertionError.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { authenticodeParts } from '../../src/statements/authenticode.js';
import { hash } from '../../src/tpm/hash.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { GUESTS, makeAk, readPcrs, seal, unseals, type Attested, type KernelUpdate, type System } from './kernel-update.js';

/** Is told what happens, for people. */
export interface Reporter {
  step(title: string): void;
  fact(text: string): void;
}

interface Seen {
  readonly guest: string;
  readonly system: string;
  readonly pcr4: string;
  readonly unsealed: boolean;
}

/** Runs it. Takes some minutes: it boots machines six times. */
export async function runKernelUpdate(update: KernelUpdate, report: Reporter): Promise<void> {
  const seen: Seen[] = [];
  const look = async (
    guest: string,
    system: System,
    expected: boolean,
    attest?: (attested: Attested) => Promise<void>,
    extra?: string[],
  ) => {
    await update.boot(guest, system, async (machine) => {
      const [pcr4] = await readPcrs(machine);
      const unsealed = await unseals(machine);
      seen.push({ guest, system, pcr4, unsealed });
      report.fact(`guest '${guest}' under ${system}: PCR 4 is ${short(pcr4)}, the secret ${unsealed ? 'comes out' : 'stays in'}`);
      assert.equal(unsealed, expected);
      if (attest !== undefined) await attest(await update.attest(guest, machine, extra));
    });
  };

  report.step(`System A: ${update.systems.A}`);
  await update.boot(GUESTS.digests, 'A', async (machine) => {
    await update.vouchForFirmware(machine);
    const [pcr4] = await readPcrs(machine);
    await seal(machine);
    seen.push({ guest: GUESTS.digests, system: 'A', pcr4, unsealed: await unseals(machine) });
    report.fact(`guest '${GUESTS.digests}', an ordinary TPM, seals to PCR 4 ${short(pcr4)} and PCR 7`);
  });
  report.fact('an issuer signs what the firmware is, and that boot loader and kernel of A are of os.level 3');
  await update.vouchFor('A');
  await update.boot(GUESTS.properties, 'A', async (machine) => {
    const [pcr4] = await readPcrs(machine);
    await seal(machine);
    seen.push({ guest: GUESTS.properties, system: 'A', pcr4, unsealed: await unseals(machine) });
    report.fact(`guest '${GUESTS.properties}' seals with the same commands to PCR 4 ${short(pcr4)} and PCR 7`);
    await writeFile(update.path('ak.pub'), await makeAk(machine));
    await accepted(update, report, await update.attest(GUESTS.properties, machine));
  });

  report.step(`Update to system B: ${update.systems.B}`);
  report.fact('the issuer signs that boot loader and kernel of B are of os.level 3, too');
  const { kernel } = await update.vouchFor('B');
  await look(GUESTS.digests, 'B', false);
  const list = await update.revoke(kernel);
  await look(GUESTS.properties, 'B', true, async (attested) => {
    await accepted(update, report, attested);
    await checkRejections(update, report, attested, list);
  });

  report.step(`System C: ${update.systems.C}`);
  await look(GUESTS.properties, 'C', false, (attested) => rejected(report, attested, 'unknown_measurement'));

  report.step('The issuer revokes its statement about the kernel of B');
  await update.tpmux('property', 'revocations', list);
  await look(GUESTS.properties, 'B', false, (attested) => rejected(report, attested, 'unknown_measurement'));

  compare(report, seen);
}

async function accepted(update: KernelUpdate, report: Reporter, { verdict, text, evidence }: Attested): Promise<void> {
  assert.equal(verdict.accepted, true, text);
  const lines = text.trim().split('\n');
  for (const line of lines) if (!/^ .* (machine|tpm)\./.test(line)) report.fact(line);
  report.fact('and what the firmware measured is machine.firmware=known');
  const shown = await readFile(evidence, 'utf8');
  for (const system of ['A', 'B'] as const) {
    const digest = hash(TPM_ALG.SHA256, ...authenticodeParts(await readFile(join(update.path(system), 'vmlinuz')))).toString('hex');
    assert.ok(!shown.includes(digest), 'the evidence shows the digest of a kernel');
  }
  report.fact('no digest of a binary is in the evidence, as the policy says');
}

/** What else a verifier must not accept, about a quote that it accepts. */
async function checkRejections(update: KernelUpdate, report: Reporter, { options, evidence }: Attested, list: string): Promise<void> {
  const edited = `${evidence}.edited`;
  const document = JSON.parse(await readFile(evidence, 'utf8')) as { entries: { pcr: number; translated: Record<string, string> }[] };
  for (const entry of document.entries.filter(({ pcr }) => pcr === 4).slice(-1)) entry.translated['sha256'] = '00'.repeat(32);
  await writeFile(edited, JSON.stringify(document));
  const withOther = (name: string, value: string): string[] => options.map((text, i) => (options[i - 1] === name ? value : text));
  const cases: [what: string, options: string[], reason: string][] = [
    ['an edited log', withOther('--evidence', edited), 'log_mismatch'],
    ['a quote of another nonce', withOther('--nonce', 'ab'.repeat(16)), 'wrong_nonce'],
    ['a revoked statement', [...options, '--revoked', list], 'revoked'],
    ['an expired statement', [...options, '--at', new Date(Date.now() + 400 * 86_400_000).toISOString()], 'expired'],
  ];
  for (const [what, changed, reason] of cases) {
    report.fact(`${what}:`);
    await rejected(report, await update.appraise(changed), reason);
  }
}

function rejected(report: Reporter, { verdict, text }: Pick<Attested, 'verdict' | 'text'>, reason: string): Promise<void> {
  assert.deepEqual([verdict.accepted, verdict.reason], [false, reason], text);
  report.fact(text.trim());
  return Promise.resolve();
}

function compare(report: Reporter, seen: readonly Seen[]): void {
  report.step('The comparison');
  report.fact(`${'guest'.padEnd(12)}${'system'.padEnd(8)}${'PCR 4'.padEnd(20)}unseals`);
  for (const { guest, system, pcr4, unsealed } of seen)
    report.fact(`${guest.padEnd(12)}${system.padEnd(8)}${short(pcr4).padEnd(20)}${unsealed ? 'yes' : 'no'}`);
  const values = (guest: string): string[] => seen.filter((one) => one.guest === guest).map(({ pcr4 }) => pcr4);
  const [sealedD, updatedD] = values(GUESTS.digests);
  const [sealedP, updatedP, foreignP, revokedP] = values(GUESTS.properties);
  assert.notEqual(sealedD, updatedD);
  assert.equal(sealedP, updatedP);
  assert.notEqual(sealedP, foreignP);
  assert.equal(foreignP, revokedP);
}

const short = (hex: string): string => `${hex.slice(0, 16)}…`;
