// For every provider and any sequence of extends the vector is a fold over the exported log, also after save and restore.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { parse } from 'yaml';
import type { Catalog } from '../../../src/statements/catalog.js';
import { UNKNOWN_TREATMENTS } from '../../../src/config/names.js';
import { parseEventLog } from '../../../src/statements/event-log.js';
import type { GuestProviders } from '../../../src/properties/provider-set/guest-providers.js';
import { exportLog, foldLog, tcgLog } from '../../../src/properties/measurement-log/export.js';
import { PcrMatrix } from '../../../src/properties/matrix/matrix.js';
import { savedMatrix } from '../../../src/properties/matrix/saved-matrix.js';
import { TPM_ALG } from '../../../src/tpm/constants/index.js';
import { hashName } from '../../../src/tpm/hash.js';
import { decode, encode } from '../../../src/tpm/schema.js';
import {
  BANKS,
  catalogOf,
  digestOf,
  goingOn,
  matrixOf,
  measured,
  providersOf,
  savedOf,
  setOf,
  statement,
  temporaryDirectory,
} from '../fixture.js';

type Step =
  | { readonly kind: 'extend'; readonly index: number; readonly text: string; readonly banks: readonly number[]; readonly data: boolean }
  | { readonly kind: 'reset'; readonly index: number }
  | { readonly kind: 'restart' };

const index = fc.constantFrom(0, 4, 7, 10, 16, 17, 23);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('extend' as const),
      index,
      text: fc.constantFrom('kernel a', 'kernel b', 'kernel c', 'x', 'y'),
      // A bank may be named twice, and one that is not allocated may be named.
      banks: fc.array(fc.constantFrom(...BANKS), { minLength: 1, maxLength: 5 }),
      data: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
);

describe('the measurement log', () => {
  const directory = temporaryDirectory();
  let catalog: Catalog;
  before(async () => {
    catalog = await catalogOf([
      statement(['kernel a', 'kernel b'], { 'os.level': 3, good: true }),
      statement(['kernel b', 'x'], { good: true }),
    ]);
  });

  /** Stores and restores the matrix, as a restart of the daemon does. */
  function restarted(matrix: PcrMatrix, providers: GuestProviders): PcrMatrix {
    const saved = decode(savedMatrix, encode(savedMatrix, savedOf(matrix, providers)));
    return goingOn(saved, providers, matrix.banks);
  }

  function sameAsFold(matrix: PcrMatrix, providers: GuestProviders): void {
    const log = exportLog(setOf(providers).log ?? assert.fail('no log'));
    const text = JSON.parse(JSON.stringify(log)) as typeof log;
    for (const provider of matrix.providerNames) {
      for (const bank of matrix.banks) {
        for (let pcr = 0; pcr < matrix.size; pcr++) {
          assert.deepEqual(matrix.readVector(provider, bank, pcr), foldLog(text, provider, bank, pcr), `${provider} ${pcr.toString()}`);
        }
      }
    }
  }

  it('folds to every vector, over restarts', async () => {
    const options = fc.record({
      steps: fc.array(step, { maxLength: 40 }),
      unknown: fc.constantFrom(...UNKNOWN_TREATMENTS),
      names: fc.constantFrom(['digest', 'certified', 'platform', 'log'], ['platform', 'log', 'digest'], ['log', 'certified']),
      banks: fc.constantFrom<readonly number[]>(BANKS, [TPM_ALG.SHA256]),
      logSize: fc.constantFrom(0, 4 * 1024 * 1024),
    });
    await fc.assert(
      fc.asyncProperty(options, async ({ steps, unknown, names, banks, logSize }) => {
        const providers = providersOf(catalog, { names, logSize, certified: { unknown } });
        let matrix = matrixOf(providers, banks);
        for (const one of steps) {
          if (one.kind === 'reset') matrix.fill(one.index, 0);
          else if (one.kind === 'restart') matrix = restarted(matrix, providers);
          else {
            const digests = one.banks.map((bank) => ({ bank, digest: digestOf(bank, one.text) }));
            await matrix.extend({ index: one.index, locality: 0, digests, eventData: one.data ? Buffer.from(one.text) : undefined });
          }
        }
        sameAsFold(matrix, providers);
        sameAsFold(restarted(matrix, providers), providers);
        assert.deepEqual([...providers.failures], []);
      }),
      { numRuns: 60 },
    );
  });

  it('summarizes the oldest entries when it is full, still folds, and says that it is not complete', async () => {
    const providers = providersOf(catalog, { logSize: 200_000 });
    const matrix = matrixOf(providers);
    for (let i = 0; i < 3000; i++) await matrix.extend(measured(10, `file ${i.toString()}`));
    await matrix.extend(measured(4, 'kernel a'));
    const log = setOf(providers).log ?? assert.fail();
    assert.ok(log.truncated);
    assert.ok(log.bytes < 2_000_000, log.bytes.toString());
    const exported = exportLog(log);
    assert.equal(exported.complete, false);
    assert.deepEqual(
      exported.pcrs.filter(({ complete }) => !complete).map(({ pcr }) => pcr),
      [10],
    );
    sameAsFold(matrix, providers);
    assert.equal(tcgLog(log, 'digest'), undefined);
  });

  it('a log of other providers than the matrix has is not continued, and says so', async () => {
    const before = providersOf(catalog);
    const matrix = matrixOf(before);
    await matrix.extend(measured(4, 'kernel a'));
    const saved = savedOf(matrix, before);
    const after = providersOf(catalog, { names: ['digest', 'log'] });
    const vectors = saved.vectors.filter(({ provider }) => ['digest', 'log'].includes(provider.toString()));
    const next = goingOn({ ...saved, vectors }, after);
    assert.equal(exportLog(setOf(after).log ?? assert.fail()).complete, false);
    sameAsFold(next, after);
  });

  it('a damaged log is told, and a new one begins', async () => {
    const providers = providersOf(catalog);
    const matrix = matrixOf(providers);
    await matrix.extend(measured(4, 'kernel a'));
    const saved = savedOf(matrix, providers);
    const next = goingOn({ ...saved, log: saved.log.subarray(0, -3) }, providers);
    assert.equal(providers.failures.get('log'), 1);
    sameAsFold(next, providers);
  });

  for (const provider of ['digest', 'certified', 'platform']) {
    it(`tpm2_eventlog replays what ${provider} extended`, async () => {
      const providers = providersOf(catalog);
      const matrix = matrixOf(providers);
      for (const [i, text] of ['kernel a', 'kernel c', 'kernel b', 'x'].entries()) {
        await matrix.extend(measured(4 + (i & 1), text, i === 2 ? { eventData: Buffer.from('some data') } : {}));
      }
      matrix.fill(16, 0);
      await matrix.extend(measured(16, 'after a reset'));
      const bytes = tcgLog(setOf(providers).log ?? assert.fail(), provider) ?? assert.fail();
      assert.equal(parseEventLog(bytes).startupLocality, 3);
      const file = join(directory(), 'log.bin');
      writeFileSync(file, bytes);
      const output = parse(execFileSync('tpm2_eventlog', [file], { encoding: 'utf8' }), { intAsBigInt: true }) as {
        pcrs: Record<string, Record<string, bigint>>;
      };
      for (const bank of BANKS) {
        const replayed = output.pcrs[hashName(bank)] ?? {};
        for (const pcr of [4, 5, 16]) {
          const value = BigInt(`0x${matrix.readVector(provider, bank, pcr)?.toString('hex') ?? ''}`);
          assert.equal(replayed[pcr.toString()], value, `${hashName(bank)} ${pcr.toString()}`);
        }
      }
    });
  }
});
