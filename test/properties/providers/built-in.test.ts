// What the built-in providers extend.
import assert from 'node:assert/strict';
import type { Catalog } from '../../../src/statements/catalog.js';
import type { CertifiedOptions } from '../../../src/properties/providers/certified.js';
import type { PcrMatrix } from '../../../src/properties/matrix/matrix.js';
import { PropertySet } from '../../../src/statements/property-set.js';
import { fixedValue } from '../../../src/statements/fixed-value.js';
import { TPM_ALG } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { BANKS, catalogOf, digestOf, goingOn, host, matrixOf, measured, providersOf, savedOf, statement } from '../fixture.js';

const zero = (bank: number): Buffer => Buffer.alloc(digestOf(bank, '').length);

describe('built-in property providers', () => {
  let catalog: Catalog;
  beforeEach(async () => {
    catalog = await catalogOf([statement(['kernel a', 'kernel b'], { 'os.level': 3, note: 'x' }), statement(['note'], { note: 'y' })]);
  });

  async function extended(certified: CertifiedOptions, ...texts: string[]): Promise<{ matrix: PcrMatrix; accepted: boolean }> {
    const matrix = matrixOf(providersOf(catalog, { certified }));
    let accepted = true;
    for (const text of texts) accepted = (await matrix.extend(measured(4, text))) && accepted;
    return { matrix, accepted };
  }
  const certifiedPcr = ({ matrix }: { matrix: PcrMatrix }, bank: number): Buffer | undefined => matrix.readVector('certified', bank, 4);

  it('certified: two binaries with the same properties give the same PCR, and digest does not', async () => {
    const [a, b, c] = [await extended({}, 'kernel a'), await extended({}, 'kernel b'), await extended({}, 'kernel c')];
    const set = PropertySet.of({ 'os.level': 3, note: 'x' });
    for (const bank of BANKS) {
      assert.deepEqual(certifiedPcr(a, bank), hash(bank, zero(bank), set.digest(bank)));
      assert.deepEqual(certifiedPcr(b, bank), certifiedPcr(a, bank));
      assert.notDeepEqual(a.matrix.readVector('digest', bank, 4), b.matrix.readVector('digest', bank, 4));
      assert.deepEqual(certifiedPcr(c, bank), hash(bank, zero(bank), fixedValue(bank, 'unknown')));
    }
    assert.equal(c.accepted, true);
  });

  it('certified: unknown things can be told apart, or refused', async () => {
    const [c, d] = [await extended({ unknown: 'distinct' }, 'kernel c'), await extended({ unknown: 'distinct' }, 'kernel d')];
    assert.notDeepEqual(certifiedPcr(c, BANKS[1]), certifiedPcr(d, BANKS[1]));
    const refused = await extended({ unknown: 'refuse' }, 'kernel c');
    assert.equal(refused.accepted, false);
    assert.deepEqual(certifiedPcr(refused, BANKS[1]), hash(BANKS[1], zero(BANKS[1]), fixedValue(BANKS[1], 'refused')));
    assert.deepEqual(refused.matrix.readVector('digest', BANKS[1], 4), hash(BANKS[1], zero(BANKS[1]), digestOf(BANKS[1], 'kernel c')));
    assert.equal((await extended({ unknown: 'refuse' }, 'kernel a')).accepted, true);
  });

  it('certified: only some properties count', async () => {
    const only = { properties: ['os.*'] };
    const [a, note] = [await extended(only, 'kernel a'), await extended(only, 'note')];
    assert.deepEqual(certifiedPcr(a, BANKS[1]), hash(BANKS[1], zero(BANKS[1]), PropertySet.of({ 'os.level': 3 }).digest(BANKS[1])));
    assert.deepEqual(certifiedPcr(note, BANKS[1]), hash(BANKS[1], zero(BANKS[1]), fixedValue(BANKS[1], 'unknown')));
  });

  it('certified: a bank is looked up by itself', async () => {
    const matrix = matrixOf(providersOf(catalog));
    const digests = [
      { bank: TPM_ALG.SHA1, digest: digestOf(TPM_ALG.SHA1, 'another') },
      { bank: TPM_ALG.SHA256, digest: digestOf(TPM_ALG.SHA256, 'kernel a') },
    ];
    await matrix.extend({ index: 4, locality: 0, digests });
    assert.deepEqual(
      matrix.readVector('certified', TPM_ALG.SHA1, 4),
      hash(TPM_ALG.SHA1, zero(TPM_ALG.SHA1), fixedValue(TPM_ALG.SHA1, 'unknown')),
    );
  });

  it('certified: what is added or removed counts from the next reset on, and not for a guest that resumes', async () => {
    const providers = providersOf(catalog);
    const matrix = matrixOf(providers);
    const saved = savedOf(matrix, providers);
    const { id } = await catalog.add(statement(['kernel c'], { 'os.level': 3, note: 'x' }));
    const value = (of: PcrMatrix): Buffer => Buffer.from(of.readVector('certified', BANKS[1], 4) ?? assert.fail());
    const unknown = hash(BANKS[1], zero(BANKS[1]), fixedValue(BANKS[1], 'unknown'));
    await matrix.extend(measured(4, 'kernel c'));
    assert.deepEqual(value(matrix), unknown, 'before the reset');
    const resumed = goingOn(saved, providers);
    await resumed.extend(measured(4, 'kernel c'));
    assert.deepEqual(value(resumed), unknown, 'after a resume');
    const reset = matrixOf(providers);
    await reset.extend(measured(4, 'kernel c'));
    assert.notDeepEqual(value(reset), unknown, 'after a reset');
    await catalog.remove(id);
    await reset.extend(measured(5, 'kernel c'));
    assert.deepEqual(reset.readVector('certified', BANKS[1], 5), reset.readVector('certified', BANKS[1], 4));
  });

  it("platform: PCRs start from the host's", () => {
    const matrix = matrixOf(providersOf(catalog));
    const own = host.pcrs.get(TPM_ALG.SHA256) ?? assert.fail();
    for (const [index, initial] of [
      [0, Buffer.alloc(32, 0).fill(3, 31)],
      [7, Buffer.alloc(32)],
      [17, Buffer.alloc(32, 0xff)],
    ] as const) {
      assert.deepEqual(matrix.readVector('platform', TPM_ALG.SHA256, index), hash(TPM_ALG.SHA256, initial, own[index] ?? assert.fail()));
      assert.deepEqual(matrix.readVector('digest', TPM_ALG.SHA256, index), initial);
    }
    const both = hash(TPM_ALG.SHA512, digestOf(TPM_ALG.SHA1, 'host 7'), digestOf(TPM_ALG.SHA256, 'host 7'));
    assert.deepEqual(matrix.readVector('platform', TPM_ALG.SHA512, 7), hash(TPM_ALG.SHA512, Buffer.alloc(64), both));
    const properties = PropertySet.of({ site: 'a' });
    const of = matrixOf(providersOf(catalog, { platform: 'properties' }, { host: { ...host, properties } }));
    assert.deepEqual(of.readVector('platform', TPM_ALG.SHA1, 9), hash(TPM_ALG.SHA1, Buffer.alloc(20), properties.digest(TPM_ALG.SHA1)));
  });

  it('a guest must name providers that exist, once', () => {
    assert.throws(() => providersOf(catalog, { names: ['digest', 'none'] }), /no property provider 'none'/);
    assert.throws(() => providersOf(catalog, { names: ['digest', 'digest'] }), /named twice/);
    assert.throws(() => providersOf(catalog, { names: [] }), /needs a property provider/);
    assert.throws(() => providersOf(catalog, { names: ['platform'] }, { host: undefined }), /not known/);
  });
});
