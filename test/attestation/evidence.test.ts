// Evidence of any form: it is verified or refused with a reason, and nothing else ever happens. Quotes that name their vector.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { buildEvidence } from '../../src/attestation/build-evidence.js';
import { parseEvidence, type Evidence } from '../../src/verifier/evidence.js';
import { VerificationError } from '../../src/verifier/verification-error.js';
import { verifyAttestation, type Attestation } from '../../src/verifier/verify.js';
import type { Catalog } from '../../src/statements/catalog.js';
import { CertifiedProvider } from '../../src/properties/providers/certified.js';
import type { GuestProviders } from '../../src/properties/provider-set/guest-providers.js';
import { exportLog } from '../../src/properties/measurement-log/export.js';
import { CreatePrimary, PCR_Extend, Quote, Vendor_Quote } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { encode, sized } from '../../src/tpm/schema.js';
import { TPMT_PUBLIC, TPMT_SIGNATURE_PLUS, type TPML_PCR_SELECTION } from '../../src/tpm/structures/index.js';
import { BANKS, catalogOf, digestOf, key as issuer, providersOf, setOf, statement } from '../properties/fixture.js';
import { none, run } from '../support/frames.js';
import { eccTemplate } from '../support/templates.js';
import { openTestTpm, type TestTpm } from '../support/vtpm.js';

const { SHA256 } = TPM_ALG;
const nonce = Buffer.from('nonce');
const AK =
  TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.restricted;
const PCRselect: TPML_PCR_SELECTION = [{ hash: SHA256, pcrSelect: Buffer.from([0x10, 0, 0]) }];
const inScheme = { scheme: TPM_ALG.NULL, details: null } as const;

const creation = { inSensitive: { userAuth: none, data: none }, outsideInfo: none, creationPCR: [] };

function inPublicOf() {
  const template = eccTemplate(TPM_ECC_CURVE.NIST_P256);
  const scheme = { scheme: TPM_ALG.ECDSA, details: { hashAlg: SHA256 } } as const;
  return { ...template, objectAttributes: AK | TPMA_OBJECT.sign, parameters: { ...template.parameters, scheme } };
}

describe('evidence', () => {
  let catalog: Catalog;
  let providers: GuestProviders;
  let guest: TestTpm;
  let signHandle: number;
  let publicArea: Buffer;

  before(async () => {
    catalog = await catalogOf([
      statement(['kernel a'], { good: true, level: 3 }),
      statement(['kernel a', 'kernel b'], { vendor: 'x' }, { hidden: true }),
    ]);
    providers = providersOf(catalog, { presented: () => 'certified' });
    guest = await openTestTpm({ properties: providers });
    const primary = { primaryHandle: TPM_RH.ENDORSEMENT, inPublic: inPublicOf() };
    const made = await run(guest.execute, CreatePrimary, { ...primary, ...creation });
    signHandle = made.objectHandle;
    publicArea = encode(sized(TPMT_PUBLIC), made.outPublic);
    for (const text of ['kernel a', 'kernel b']) {
      const digests = BANKS.map((hashAlg) => ({ hashAlg, digest: digestOf(hashAlg, text) }));
      await run(guest.execute, PCR_Extend, { pcrHandle: 4, digests });
    }
  });

  function evidenceOf(provider: string): string {
    const certified = setOf(providers).provider('certified');
    assert.ok(certified instanceof CertifiedProvider);
    const { evidence, withheld } = buildEvidence({
      log: exportLog(setOf(providers).log ?? assert.fail()),
      vector: () => provider,
      known: {
        set: (bank, digest) => certified.properties(bank, digest),
        statements: (bank, digest) => certified.statements(bank, digest),
        envelope: (id) => catalog.get(id)?.envelope,
      },
      revealed: { property: () => true, digests: true },
    });
    assert.equal(withheld, 0);
    return JSON.stringify(evidence);
  }

  /** A quote of the presented vector, or of one provider's. */
  async function attested(provider?: string, changes: Partial<Attestation> = {}): Promise<Attestation> {
    const request = { signHandle, qualifyingData: nonce, inScheme, PCRselect };
    const { quoted, signature } =
      provider === undefined
        ? await run(guest.execute, Quote, request)
        : await run(guest.execute, Vendor_Quote, { ...request, provider: Buffer.from(provider) });
    const tpm = { quote: Buffer.from(quoted), signature: encode(TPMT_SIGNATURE_PLUS, signature), key: publicArea, nonce };
    const trusted = { roots: [{ key: issuer, allowed: ['*'] }], revocations: [], trustGuestPolicy: provider === undefined };
    const verifier = { ...trusted, time: Date.now(), required: [] };
    return { ...tpm, evidence: evidenceOf(provider ?? 'certified'), ...verifier, ...changes };
  }

  const reasonOf = async (given: Attestation): Promise<string> => {
    try {
      await verifyAttestation(given);
      return 'accepted';
    } catch (error) {
      assert.ok(error instanceof VerificationError, String((error as Error).stack));
      return error.reason;
    }
  };

  it('of a quote that names its vector shows which one it is', async () => {
    for (const provider of ['certified', 'digest']) {
      const given = await attested(provider, { mustNameProvider: true, provider });
      const shown = await verifyAttestation(given);
      assert.equal(shown.namesProvider, true);
      assert.deepEqual(
        shown.measurements.map(({ properties }) => properties.map(({ name }) => name)),
        [['good', 'level', 'vendor'], ['vendor']],
      );
      assert.equal(await reasonOf({ ...given, nonce: Buffer.from('other') }), 'wrong_nonce');
    }
  });

  it('of another vector than the quote names is refused', async () => {
    const digest = await attested('digest');
    assert.equal(await reasonOf({ ...digest, evidence: evidenceOf('certified') }), 'other_vector');
    const certified = await attested('certified');
    assert.equal(await reasonOf({ ...certified, evidence: evidenceOf('digest') }), 'other_vector');
    const claimed = digest.evidence.replaceAll('"provider":"digest"', '"provider":"certified"');
    assert.equal(await reasonOf({ ...digest, evidence: claimed }), 'other_vector');
  });

  it('is not believed to be of a vector that the quote does not name, unless the policy of the guest is known', async () => {
    const forger = providersOf(catalog, { names: ['digest', 'log'] });
    const other = await openTestTpm({ properties: forger });
    const primary = { primaryHandle: TPM_RH.ENDORSEMENT, inPublic: inPublicOf() };
    const made = await run(other.execute, CreatePrimary, { ...primary, ...creation });
    const set = (setOf(providers).provider('certified') as CertifiedProvider).properties(SHA256, digestOf(SHA256, 'kernel a'));
    await run(other.execute, PCR_Extend, {
      pcrHandle: 4,
      digests: [{ hashAlg: SHA256, digest: set?.digest(SHA256) ?? assert.fail() }],
    });
    const request = { signHandle: made.objectHandle, qualifyingData: nonce, inScheme, PCRselect };
    const { quoted, signature } = await run(other.execute, Quote, request);
    const honest = JSON.parse(evidenceOf('certified')) as { entries: { pcr: number }[] };
    const [first] = honest.entries.filter(({ pcr }) => pcr === 4);
    const forged = { ...honest, entries: [first] };
    const given: Attestation = {
      ...(await attested()),
      quote: Buffer.from(quoted),
      signature: encode(TPMT_SIGNATURE_PLUS, signature),
      key: encode(sized(TPMT_PUBLIC), made.outPublic),
      evidence: JSON.stringify(forged),
      pcrs: [4],
    };
    assert.equal(await reasonOf({ ...given, trustGuestPolicy: true }), 'accepted', 'what is forged is good in itself');
    for (const changes of [{ trustGuestPolicy: false }, { trustGuestPolicy: undefined }]) {
      assert.equal(await reasonOf({ ...given, ...changes }), 'vector_not_named');
    }
    assert.equal(await reasonOf({ ...given, mustNameProvider: true }), 'other_vector');
  });

  it('a guest that extends the digest of a property set itself does not pass for one that has it', async () => {
    const forger = providersOf(catalog, { presented: () => 'certified' });
    const other = await openTestTpm({ properties: forger });
    const set =
      (setOf(providers).provider('certified') as CertifiedProvider).properties(SHA256, digestOf(SHA256, 'kernel a')) ?? assert.fail();
    await run(other.execute, PCR_Extend, { pcrHandle: 4, digests: [{ hashAlg: SHA256, digest: set.digest(SHA256) }] });
    const entry = exportLog(setOf(forger).log ?? assert.fail()).entries.find(({ kind }) => kind === 'extend') ?? assert.fail();
    assert.equal(entry.untranslated?.['certified'], 'unknown');
  });

  it('any text is refused as malformed or parsed', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.jsonValue().map((value) => JSON.stringify(value)),
        ),
        (text) => {
          assert.throws(
            () => parseEvidence(text),
            (error) => error instanceof VerificationError && error.reason === 'malformed',
          );
        },
      ),
      { numRuns: 500 },
    );
  });

  it('with anything in it replaced is accepted as it was, or refused with a reason', async () => {
    const given = await attested();
    const expected = JSON.stringify((await verifyAttestation(given)).measurements);
    const places = paths(JSON.parse(given.evidence));
    const reasons = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...places), fc.jsonValue(), async (path, value) => {
        const document = JSON.parse(given.evidence) as Evidence;
        const changed = { ...given, evidence: JSON.stringify(replaced(document, path, value)) };
        const reason = await reasonOf(changed);
        reasons.add(reason);
        if (reason !== 'accepted') return;
        // What is not about PCR 4, or is not signed for, may say what it likes: it changes nothing of what is shown.
        const { measurements } = await verifyAttestation(changed);
        assert.deepEqual(signedFor(measurements), signedFor(JSON.parse(expected) as typeof measurements), path.join('.'));
      }),
      { numRuns: 600 },
    );
    assert.ok(reasons.has('malformed') && reasons.has('accepted'), [...reasons].join());
  });

  it('any change of quote, signature or key is refused with a reason', async () => {
    const given = await attested();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('quote', 'signature', 'key'),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (part, at, change, cut) => {
          const bytes = Buffer.from(given[part as 'quote']);
          const place = at % bytes.length;
          bytes[place]! ^= change;
          const reason = await reasonOf({ ...given, [part]: cut ? bytes.subarray(0, place) : bytes });
          // The key's name algorithm, attributes and policy are not what it signs with.
          assert.ok(part === 'key' || reason !== 'accepted');
        },
      ),
      { numRuns: 600 },
    );
  });
});

type Shown = Awaited<ReturnType<typeof verifyAttestation>>['measurements'];

/** What of a measurement the quote and the issuers' signatures are for. */
function signedFor(measurements: Shown): unknown {
  return measurements.map(({ pcr, properties }) => ({ pcr, properties }));
}

/** Ways to everything in a JSON value. */
function paths(value: unknown, before: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [[...before]];
  return [[...before], ...Object.entries(value).flatMap(([name, member]) => paths(member, [...before, name]))];
}

function replaced(value: unknown, [name, ...rest]: readonly string[], by: unknown): unknown {
  if (name === undefined) return by;
  const copy = Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) };
  (copy as Record<string, unknown>)[name] = replaced((value as Record<string, unknown>)[name], rest, by);
  return copy;
}
