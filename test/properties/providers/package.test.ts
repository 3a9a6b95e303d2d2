// Providers of packages: what they can do, and what they cannot do to a guest.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import type { Catalog } from '../../../src/statements/catalog.js';
import { exportLog, foldLog } from '../../../src/properties/measurement-log/export.js';
import { PcrMatrix } from '../../../src/properties/matrix/matrix.js';
import { fixedValue } from '../../../src/statements/fixed-value.js';
import { ProviderPackage } from '../../../src/properties/providers/package.js';
import { TPM_ALG } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { catalogOf, digestOf, goingOn, guest, matrixOf, measured, providersOf, savedOf, setOf } from '../fixture.js';

const path = (name: string): string => fileURLToPath(new URL(`./packages/${name}.mjs`, import.meta.url));
const { SHA256 } = TPM_ALG;

describe('property providers of packages', () => {
  const opened: ProviderPackage[] = [];
  let catalog: Catalog;
  before(async () => {
    catalog = await catalogOf([]);
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });

  function open(name: string, timeLimit = 1000): ProviderPackage {
    const opening = new ProviderPackage({ module: path(name), timeLimit });
    opened.push(opening);
    return opening;
  }

  function guestOf(provider: ProviderPackage, name = guest.name): { providers: ReturnType<typeof providersOf>; matrix: PcrMatrix } {
    const packages = new Map([['mine', { provider, options: { first: 10 } }]]);
    const providers = providersOf(catalog, { guest: { ...guest, name }, names: ['digest', 'mine', 'log'] }, { packages });
    return { providers, matrix: matrixOf(providers) };
  }

  const vector = (matrix: PcrMatrix, pcr: number, provider = 'mine'): Buffer =>
    Buffer.from(matrix.readVector(provider, SHA256, pcr) ?? assert.fail());
  const zero = Buffer.alloc(32);

  it('translate, keep state, refuse, and fold', async () => {
    const provider = open('counting');
    await provider.open();
    const { providers, matrix } = guestOf(provider);
    const other = guestOf(provider, 'other');
    assert.equal(await matrix.extend(measured(4, 'x')), true);
    assert.equal(await other.matrix.extend(measured(4, 'x')), true);
    assert.equal(await matrix.extend(measured(4, 'y')), true);
    const expected = hash(SHA256, hash(SHA256, zero, digestOf(SHA256, '11')), digestOf(SHA256, '12'));
    assert.deepEqual(vector(matrix, 4), expected);
    assert.deepEqual(vector(other.matrix, 4), hash(SHA256, zero, digestOf(SHA256, '11')));
    assert.equal(await matrix.extend(measured(15, 'x')), false);
    assert.deepEqual(vector(matrix, 15), hash(SHA256, zero, fixedValue(SHA256, 'refused')));
    assert.deepEqual(vector(matrix, 15, 'digest'), hash(SHA256, zero, digestOf(SHA256, 'x')));

    const again = new ProviderPackage({ module: path('counting'), timeLimit: 1000 });
    opened.push(again);
    const moved = providersOf(
      catalog,
      { names: ['digest', 'mine', 'log'] },
      { packages: new Map([['mine', { provider: again, options: {} }]]) },
    );
    const next = goingOn(savedOf(matrix, providers), moved);
    await next.extend(measured(4, 'z'));
    assert.deepEqual(vector(next, 4), hash(SHA256, expected, digestOf(SHA256, '13')));
    const log = exportLog(setOf(moved).log ?? assert.fail());
    for (const name of next.providerNames) assert.deepEqual(foldLog(log, name, SHA256, 4), vector(next, 4, name));
    assert.deepEqual([...providers.failures, ...moved.failures], []);
  });

  const failures: readonly (readonly [number, string, boolean])[] = [
    [1, 'throws', false],
    [2, 'never returns', true],
    [3, 'never resolves', true],
    [4, 'ends its thread', true],
    [5, 'gives too few digests', false],
    [6, 'gives digests of a wrong size', false],
    [7, 'takes all memory', true],
    [8, 'gives what cannot be sent', false],
  ];
  for (const [pcr, what, stops] of failures) {
    it(`one that ${what} is failed, and nothing else is`, async () => {
      const provider = open('misbehaving', pcr === 7 ? 20_000 : 300);
      await provider.open();
      const { providers, matrix } = guestOf(provider);
      const other = guestOf(provider, 'other');
      const waiting = [matrix, other.matrix].map(async (one, i) => one.extend(measured(i === 0 ? pcr : 10, 'x')));
      assert.deepEqual(await Promise.all(waiting), [true, true]);
      assert.deepEqual(vector(matrix, pcr), hash(SHA256, zero, fixedValue(SHA256, 'failed')));
      assert.deepEqual(vector(matrix, pcr, 'digest'), hash(SHA256, zero, digestOf(SHA256, 'x')));
      assert.deepEqual(vector(other.matrix, 10), vector(other.matrix, 10, 'digest'), 'another guest of the same package');
      await matrix.extend(measured(10, 'x'));
      const expected = stops ? fixedValue(SHA256, 'failed') : digestOf(SHA256, 'x');
      assert.deepEqual(vector(matrix, 10), hash(SHA256, zero, expected));
      assert.equal(providers.failures.get('mine'), stops ? 2 : 1);
      const begun = matrixOf(providers);
      await begun.extend(measured(10, 'x'));
      assert.deepEqual(vector(begun, 10), hash(SHA256, zero, digestOf(SHA256, 'x')), 'after a reset');
    });
  }

  it('that are none, or of another version, are not loaded', async () => {
    await assert.rejects(open('other-version').open(), /version 7 of the interface; this tpmux has version 1/);
    await assert.rejects(open('no-provider').open(), /no function 'create'/);
    await assert.rejects(open('there-is-none').open(), /there-is-none/);
  });

  it('the first failure after each reset is told', async () => {
    const provider = open('misbehaving');
    const told: string[] = [];
    const packages = new Map([['mine', { provider, options: undefined }]]);
    const failed = (name: string, error: unknown): void => {
      told.push(`${name}: ${String(error)}`);
    };
    const providers = providersOf(catalog, { names: ['digest', 'mine'], failed }, { packages });
    const matrix = matrixOf(providers);
    for (let i = 0; i < 3; i++) await matrix.extend(measured(1, 'x'));
    assert.deepEqual(told, ['mine: Error: no luck today']);
    await matrixOf(providers).extend(measured(1, 'x'));
    assert.equal(told.length, 2);
    assert.equal(providers.failures.get('mine'), 4);
  });
});
