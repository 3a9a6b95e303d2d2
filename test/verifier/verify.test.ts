// The remote verifier against quotes that tpm2-tools took from a guest: what it accepts, and each reason to refuse.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { VerificationError, type RejectionReason } from '../../src/verifier/verification-error.js';
import { verifyAttestation, type Attestation, type Verification } from '../../src/verifier/verify.js';
import type { Evidence } from '../../src/verifier/evidence.js';
import { issueRevocations } from '../../src/statements/revocation.js';
import { PropertySet } from '../../src/statements/property-set.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { digestOf, ISSUER, newKey } from '../properties/fixture.js';
import { tpmux } from '../cli/command-line.js';
import {
  attestation,
  AttestationBench,
  issued,
  issuerKey,
  issuerPem,
  sha256Of,
  type AttestedGuest,
  type Quoted,
} from '../support/attested-guest.js';

const nonce = randomBytes(20);
const PCRS = 'sha256:0,4,7';

async function refused(given: Attestation, reason: RejectionReason, text?: RegExp): Promise<void> {
  await assert.rejects(verifyAttestation(given), (error) => {
    assert.ok(error instanceof VerificationError, String(error));
    assert.equal(error.reason, reason, error.message);
    if (text !== undefined) assert.match(error.message, text);
    return true;
  });
}

const propertiesOf = ({ measurements }: Verification): string[] =>
  measurements.flatMap(({ pcr, properties }) => properties.map(({ name, value }) => `${pcr.toString()}:${name}=${value.toString()}`));

describe('remote verifier', function () {
  this.timeout(120_000);
  let bench: AttestationBench;
  let guest: AttestedGuest;
  let ids: string[];
  let key: string;
  let a: Quoted;

  before(async () => {
    bench = await AttestationBench.start();
    ids = await bench.state(
      issued(['kernel a'], { 'os.level': 3 }),
      issued(['kernel b'], { 'os.level': 3 }, { hidden: true }),
      issued(['loader'], { 'os.loader': 'good' }, { hidden: true }),
    );
    guest = await bench.guest('web1', { present: { '0-7': 'certified' } });
    key = await guest.attestationKey('ecc', 'ecdsa', '0x81010002');
    a = await boot('kernel a');
  });
  after(() => bench.stop());

  async function boot(kernel: string): Promise<Quoted> {
    await guest.reboot();
    await guest.measure(4, 'loader');
    await guest.measure(4, kernel);
    return guest.quote(key, PCRS, nonce);
  }

  const edited = (quoted: Quoted, edit: (evidence: Evidence) => void): Quoted => {
    const evidence = JSON.parse(quoted.evidence) as Evidence;
    edit(evidence);
    return { ...quoted, evidence: JSON.stringify(evidence) };
  };

  it('accepts kernel A, and after an update kernel B with the same properties', async () => {
    const b = await boot('kernel b');
    for (const quoted of [a, b]) {
      const shown = await verifyAttestation(
        attestation(quoted, {
          required: [
            { name: 'os.level', value: 3 },
            { name: 'os.loader', pcr: 4 },
          ],
        }),
      );
      assert.deepEqual(propertiesOf(shown), ['4:os.loader=good', '4:os.level=3']);
      assert.deepEqual([shown.namesProvider, shown.keyIsRestricted, shown.later, shown.banks], [false, true, 0, ['sha256']]);
    }
    assert.ok(a.evidence.includes(sha256Of('kernel a')));
  });

  it('refuses kernel C, which no statement is about', async () => {
    await refused(
      attestation(await boot('kernel c')),
      'unknown_measurement',
      /^PCR 4, entry \d+ \(sha256\): the provider called it unknown/,
    );
  });

  it('refuses an edited log', async () => {
    const other = PropertySet.of({ 'os.level': 4 }).digest(TPM_ALG.SHA256).toString('hex');
    const edits: ((evidence: Evidence) => void)[] = [
      ({ entries }) => (entries[1]!.translated.sha256 = other),
      ({ entries }) => entries.pop(),
      ({ entries }) => entries.reverse(),
      ({ entries }) => (entries[0]!.pcr = 7),
      ({ pcrs }) => (pcrs[4]!.base.sha256 = other),
    ];
    for (const edit of edits) await refused(attestation(edited(a, edit)), 'log_mismatch');
  });

  it('refuses a log that leaves out what came first', async () => {
    const { entries, pcrs } = JSON.parse(a.evidence) as Evidence;
    const { createHash } = await import('node:crypto');
    const first = createHash('sha256')
      .update(Buffer.from(pcrs[4]!.base.sha256!, 'hex'))
      .update(Buffer.from(entries[0]!.translated.sha256!, 'hex'))
      .digest('hex');
    const cut = edited(a, (evidence) => {
      evidence.entries.shift();
      evidence.pcrs[4]!.base.sha256 = first;
    });
    await refused(attestation(cut), 'log_incomplete');
  });

  it('refuses a quote for another nonce', async () => {
    await refused(attestation({ ...a, nonce: randomBytes(20) }), 'wrong_nonce');
    await refused(attestation({ ...a, nonce: Buffer.alloc(0) }), 'wrong_nonce');
  });

  it('refuses a revoked statement, by its identifier or by the digest of the thing', async () => {
    const list = (number: number, revoked: Parameters<typeof issueRevocations>[0]['revoked'], by = issuerKey): string =>
      issueRevocations({ issuer: ISSUER, number, issued: '', revoked }, by);
    const byId = list(1, [{ statement: ids[0]!, reason: 'CVE-1' }]);
    await refused(attestation(a, { revocations: [byId] }), 'revoked', /its issuer revoked it: CVE-1/);
    const byDigest = list(1, [{ digest: { sha256: sha256Of('kernel a') }, reason: '' }]);
    await refused(attestation(a, { revocations: [byDigest] }), 'revoked');
    await verifyAttestation(attestation(a, { revocations: [byId, list(2, [])] }));
    await refused(attestation(a, { revocations: [list(3, [], newKey())] }), 'untrusted_statement');
    await refused(attestation(a, { revocations: ['{}'] }), 'malformed');
  });

  it('refuses an expired statement, and one that is not valid yet', async () => {
    await refused(attestation(a, { time: Date.now() + 7_200_000 }), 'expired', /it was valid until/);
    await refused(attestation(a, { time: Date.now() - 7_200_000 }), 'not_yet_valid');
  });

  it('refuses statements of others, and properties that an issuer may not state', async () => {
    await refused(attestation(a, { roots: [{ key: newKey(), allowed: ['*'] }] }), 'untrusted_statement');
    await refused(attestation(a, { roots: [{ issuer: 'other@example.org', key: issuerKey, allowed: ['*'] }] }), 'untrusted_statement');
    await refused(attestation(a, { roots: [{ key: issuerKey, allowed: ['tpm.*'] }] }), 'property_not_allowed');
  });

  it('refuses evidence whose statements do not say what its log claims', async () => {
    await refused(attestation(edited(a, ({ statements }) => statements.splice(0))), 'statement_mismatch', /lacks statement/);
    await refused(attestation(edited(a, ({ entries }) => (entries[1]!.statements = []))), 'unknown_measurement');
    await refused(
      attestation(edited(a, ({ entries }) => (entries[1]!.statements = [ids[2]!]))),
      'statement_mismatch',
      /not about what was measured/,
    );
    const unnamed = edited(a, ({ entries }) => {
      delete entries[1]!.measured;
      entries[1]!.statements = [ids[2]!];
    });
    await refused(attestation(unnamed), 'statement_mismatch', /no statement that is shown says os\.level=3/);
    await refused(attestation(edited(a, ({ propertySets }) => propertySets.splice(0))), 'unknown_measurement');
  });

  it('refuses what misses a property', async () => {
    await refused(attestation(a, { required: [{ name: 'os.level', value: 4 }] }), 'missing_property', /property os\.level=4 is not shown/);
    await refused(attestation(a, { required: [{ name: 'os.level', pcr: 7 }] }), 'missing_property', /by PCR 7/);
  });

  it('refuses a quote that does not cover the PCRs', async () => {
    await refused(attestation(a, { pcrs: [4, 9] }), 'pcrs_not_covered', /does not cover PCR 9/);
    await refused(attestation(await guest.quote(key, 'sha1:4', nonce)), 'pcrs_not_covered', /other than SHA-1/);
    await refused(attestation(await guest.quote(key, 'sha256:2', nonce)), 'nothing_measured');
    await refused(attestation(edited(a, ({ pcrs }) => pcrs.splice(4, 1))), 'pcrs_not_covered', /nothing about PCR 4/);
    await refused(attestation(edited(a, ({ pcrs }) => pcrs.push(pcrs[4]!))), 'pcrs_not_covered', /two things/);
  });

  it('refuses what is no quote, and signatures of others', async () => {
    await guest.tool(
      'gettime',
      '-c',
      key,
      '-g',
      'sha256',
      '-o',
      guest.at('time.sig'),
      '-q',
      nonce.toString('hex'),
      '--attestation',
      guest.at('time'),
    );
    const time = { ...a, quote: await readFile(guest.at('time')), signature: await readFile(guest.at('time.sig')) };
    await refused(attestation(time), 'not_a_quote', /of type 0x8019/);
    await refused(attestation({ ...a, quote: Buffer.from('no quote') }), 'not_a_quote');
    await refused(attestation({ ...a, quote: a.quote.subarray(0, 40) }), 'not_a_quote');
    const changed = Buffer.from(a.quote);
    changed[changed.length - 1]! ^= 1;
    await refused(attestation({ ...a, quote: changed }), 'bad_signature');
    const other = await guest.attestationKey('ecc', 'ecdsa', '0x81010003');
    await refused(attestation({ ...a, key: await readFile(guest.at(`${other}.pub`)) }), 'bad_signature');
    await refused(attestation({ ...a, signature: randomBytes(72) }), 'bad_signature');
  });

  it('refuses keys with which anybody can sign anything', async () => {
    await guest.tool(
      'createprimary',
      '-C',
      'o',
      '-G',
      'ecc256:ecdsa',
      '-a',
      'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign',
      '-c',
      guest.at('p'),
    );
    await guest.tool('readpublic', '-c', guest.at('p'), '-o', guest.at('p.pub'));
    await guest.tool('flushcontext', '-t');
    await refused(attestation({ ...a, key: await readFile(guest.at('p.pub')) }), 'unsuitable_key', /no restricted signing key/);
    await refused(attestation({ ...a, key: Buffer.from('garbage') }), 'unsuitable_key');
  });

  it('takes keys in PEM and DER, bare signatures, RSA with both paddings', async () => {
    await guest.tool('readpublic', '-c', key, '-f', 'pem', '-o', guest.at('ak.pem'));
    const pem = await readFile(guest.at('ak.pem'));
    const der = createPublicKey(pem).export({ type: 'spki', format: 'der' });
    for (const form of [pem, der]) assert.equal((await verifyAttestation(attestation({ ...a, key: form }))).keyIsRestricted, false);
    await boot('kernel a');
    await verifyAttestation(attestation(await guest.quote(key, PCRS, nonce, '-f', 'plain')));
    for (const [scheme, handle] of [
      ['rsassa', '0x81010004'],
      ['rsapss', '0x81010005'],
    ] as const) {
      const rsa = await guest.attestationKey('rsa', scheme, handle);
      for (const options of [[], ['-f', 'plain']])
        await verifyAttestation(attestation(await guest.quote(rsa, PCRS, nonce, '--scheme', scheme, ...options)));
    }
  });

  it('what is measured after the quote is no part of it', async () => {
    await boot('kernel a');
    const early = await guest.quote(key, PCRS, nonce);
    await guest.measure(4, 'kernel c');
    const shown = await verifyAttestation(attestation({ ...early, evidence: await guest.evidence() }));
    assert.deepEqual([shown.later, propertiesOf(shown)], [1, ['4:os.loader=good', '4:os.level=3']]);
  });

  it('shows no digest when the policy hides them; statements that hide theirs still count', async () => {
    const shy = await bench.guest('shy', { present: { '0-7': 'certified' }, attest: { digests: 'hide' } });
    const ak = await shy.attestationKey('ecc', 'ecdsa', '0x81010002');
    await shy.reboot();
    await shy.measure(4, 'kernel b');
    await shy.measure(10, 'application');
    const quoted = await shy.quote(ak, 'sha256:4,10', nonce);
    for (const text of ['kernel b', 'kernel a', 'application']) {
      for (const bank of [TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA384, TPM_ALG.SHA512]) {
        const digest = digestOf(bank, text);
        for (const form of ['hex', 'base64'] as const) assert.ok(!quoted.evidence.includes(digest.toString(form)), text);
        for (const { payload } of (JSON.parse(quoted.evidence) as Evidence).statements.map(
          (one) => JSON.parse(one) as { payload: string },
        )) {
          assert.ok(!Buffer.from(payload, 'base64').toString().includes(digest.toString('hex')));
        }
      }
    }
    assert.deepEqual(propertiesOf(await verifyAttestation(attestation(quoted, { pcrs: [4] }))), ['4:os.level=3']);
    await refused(attestation(quoted), 'log_incomplete', /PCR 10/);
    await shy.reboot();
    await shy.measure(4, 'kernel a');
    await refused(attestation(await shy.quote(ak, 'sha256:4', nonce)), 'unknown_measurement', /no statement about it is shown/);
  });

  it('shows no property that the policy does not reveal', async () => {
    await bench.state(issued(['appliance'], { 'os.level': 3, 'secret.customer': 'Z' }));
    const discreet = await bench.guest('discreet', { present: { '0-7': 'certified' }, attest: { reveal: ['os.*'] } });
    const ak = await discreet.attestationKey('ecc', 'ecdsa', '0x81010002');
    await discreet.reboot();
    await discreet.measure(4, 'kernel a');
    await verifyAttestation(attestation(await discreet.quote(ak, 'sha256:4', nonce)));
    await discreet.measure(4, 'appliance');
    const quoted = await discreet.quote(ak, 'sha256:4', nonce);
    assert.ok(!quoted.evidence.includes('secret.customer'));
    await refused(attestation(quoted), 'unknown_measurement');
  });

  it('takes a vector of digests too: then statements are about what was quoted', async () => {
    const plain = await bench.guest('plain');
    const ak = await plain.attestationKey('ecc', 'ecdsa', '0x81010002');
    await plain.reboot();
    await plain.measure(4, 'kernel a');
    const quoted = await plain.quote(ak, 'sha256:4', nonce);
    assert.deepEqual(propertiesOf(await verifyAttestation(attestation(quoted))), ['4:os.level=3']);
    await refused(attestation(quoted, { provider: 'certified' }), 'other_vector');
    await refused(attestation(quoted, { mustNameProvider: true }), 'other_vector', /does not say/);
    await plain.measure(4, 'kernel c');
    await refused(attestation(await plain.quote(ak, 'sha256:4', nonce)), 'unknown_measurement');
  });

  it('tpmux evidence writes what a verifier needs, and tells what the policy holds back', async () => {
    const where = ['--run-dir', bench.daemon.config.runDir];
    const plain = await tpmux(['evidence', 'web1', ...where, '--out', bench.at('written')]);
    assert.deepEqual([plain.code, plain.out, plain.err], [0, '', '']);
    assert.equal((await readFile(bench.at('written'), 'utf8')).trim(), await guest.evidence());
    const shy = await tpmux(['evidence', 'shy', ...where]);
    assert.equal((JSON.parse(shy.out) as Evidence).type, 'urn:tpmux:evidence:v1');
    assert.match(shy.err, /^tpmux: 1 measurement of guest shy can't be verified/);
    const unknown = await tpmux(['evidence', 'web1', ...where, '--provider', 'nobody']);
    assert.equal(unknown.code, 2);
    assert.match(unknown.err, /^tpmux: evidence about guest web1 : it has no provider 'nobody'/);
  });

  it('tpmux verify says the same, with exit code 3 and the reason', async () => {
    const files = { quote: a.quote, signature: a.signature, ak: a.key, evidence: a.evidence, issuer: issuerPem };
    for (const [name, content] of Object.entries(files)) await writeFile(bench.at(name), content);
    const args = (given: Buffer): string[] => [
      'verify',
      ...['quote', 'signature', 'ak', 'evidence'].flatMap((name) => [`--${name}`, bench.at(name)]),
      ...['--nonce', given.toString('hex'), '--trust', `${ISSUER}=${bench.at('issuer')}#os.*,tpm.*`],
    ];
    const unnamed = await tpmux(args(nonce));
    assert.equal(unnamed.code, 3);
    assert.match(unnamed.err, /which any guest could claim \(reason: vector_not_named; quote with 'tpmux-guest quote'/);
    const known = [...args(nonce), '--trust-guest-policy'];
    const accepted = await tpmux([...known, '--require', '4:os.level=3']);
    assert.equal(accepted.code, 0, accepted.err);
    assert.match(accepted.out, /^accepted: PCRs 0,4,7 of sha256, vector certified\n/);
    assert.match(accepted.out, /\n +4 +\d+ +os\.level=3 +build@example\.org\n/);
    const rejected = await tpmux([...args(randomBytes(8)), '--json']);
    assert.equal(rejected.code, 3);
    assert.match(rejected.err, /^tpmux: verifying the quote : the quote is for another nonce: .* \(reason: wrong_nonce\)\n$/);
    assert.deepEqual({ ...(JSON.parse(rejected.out) as object), why: '' }, { accepted: false, reason: 'wrong_nonce', why: '' });
    const missing = await tpmux([...known, '--require', 'os.level=5']);
    assert.deepEqual([missing.code, missing.out], [3, '']);
    assert.equal((await tpmux(['verify', '--nonce', 'xy'])).code, 2);
  });
});
