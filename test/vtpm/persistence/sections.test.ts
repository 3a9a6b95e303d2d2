// Journal, snapshot and the state itself are the same at any time, also after an operation that was undone.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { applyChanges } from '../../../src/store/journal-record.js';
import { MemoryJournal } from '../../../src/store/memory-journal.js';
import type { Catalog } from '../../../src/statements/catalog.js';
import {
  Clear,
  ClockRateAdjust,
  CreatePrimary,
  NV_DefineSpace,
  PolicyAuthValue,
  StartAuthSession,
  Startup,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { Dispatcher } from '../../../src/vtpm/dispatch/dispatcher.js';
import { servedCommands } from '../../../src/vtpm/handlers.js';
import { defaultLimits } from '../../../src/vtpm/limits.js';
import { SectionChanges } from '../../../src/vtpm/persistence/section-changes.js';
import type { Sections } from '../../../src/vtpm/persistence/section.js';
import { takeVolatile, VolatileState } from '../../../src/vtpm/persistence/snapshot.js';
import { Transaction } from '../../../src/vtpm/persistence/transaction.js';
import { VolatileKeeper } from '../../../src/vtpm/persistence/volatile-keeper.js';
import { NotDurable } from '../../../src/vtpm/state/durable.js';
import { Tpm } from '../../../src/vtpm/tpm.js';
import { hash } from '../../../src/tpm/hash.js';
import { catalogOf, providersOf, statement } from '../../properties/fixture.js';
import { codeOf, frame, none } from '../../support/frames.js';
import { asParent, eccTemplate } from '../../support/templates.js';
import { MemoryRecords, softwareKeys } from '../../support/vtpm.js';
import { volatileStep } from './volatile-steps.js';

const TOKEN = 7;
const ORDERLY = (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.ORDERLY) >>> 0;
const startSession = (sessionType: typeof TPM_SE.HMAC | typeof TPM_SE.POLICY): Buffer =>
  frame(StartAuthSession, {
    tpmKey: TPM_RH.NULL,
    bind: TPM_RH.NULL,
    nonceCaller: Buffer.alloc(16, 1),
    encryptedSalt: none,
    sessionType,
    symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
    authHash: TPM_ALG.SHA256,
  });
const createPrimary = frame(CreatePrimary, {
  primaryHandle: TPM_RH.NULL,
  inSensitive: { userAuth: none, data: none },
  inPublic: asParent(eccTemplate()),
  outsideInfo: none,
  creationPCR: [],
});
const more = fc
  .constantFrom(
    startSession(TPM_SE.HMAC),
    startSession(TPM_SE.POLICY),
    frame(PolicyAuthValue, { policySession: 0x03000000 }),
    frame(ClockRateAdjust, { auth: TPM_RH.OWNER, rateAdjust: 1 }),
    frame(Clear, { authHandle: TPM_RH.PLATFORM }),
    createPrimary,
  )
  .map((bytes) => ({ bytes, locality: 0 }));
const steps = fc.array(
  fc.record({ step: fc.oneof({ weight: 4, arbitrary: volatileStep }, { weight: 1, arbitrary: more }), diskFails: fc.boolean() }),
  {
    minLength: 1,
    maxLength: 40,
  },
);

/** All that is lost with power, encoded anew. Pieces of the log are numbered from zero. */
function sectionsOf({ modules }: Tpm): Record<string, string> {
  return plain(applyChanges([{ changes: new SectionChanges().collect(modules) }]));
}

function plain(sections: Sections): Record<string, string> {
  const pieces = new Map<string, number[]>();
  for (const [, index = '', id] of [...sections.keys()].map((name) => /^log\/(\d+)\/(\d+)$/.exec(name) ?? [])) {
    if (id !== undefined)
      pieces.set(
        index,
        [...(pieces.get(index) ?? []), Number(id)].sort((one, other) => one - other),
      );
  }
  const named = (name: string): string => {
    const [, index = '', id] = /^log\/(\d+)\/(\d+)$/.exec(name) ?? [];
    return id === undefined ? name : `log/${index}/${(pieces.get(index) ?? []).indexOf(Number(id)).toString()}`;
  };
  return Object.fromEntries(
    [...sections]
      .filter(([name]) => !name.startsWith('answer/'))
      .map(([name, bytes]): [string, string] => [named(name), short(bytes)])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );
}

/** What is long is told by its digest, so that a difference can be read. */
const short = (bytes: Buffer): string =>
  bytes.length <= 64 ? bytes.toString('hex') : `${bytes.length.toString()} bytes, SHA-256 ${hash(TPM_ALG.SHA256, bytes).toString('hex')}`;

const without = (sections: Record<string, string>, ...names: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(sections).filter(([name]) => !names.includes(name)));

/** A TPM with its journal, as a vTPM has them. */
class Machine {
  readonly records = new MemoryRecords();
  readonly journal = new MemoryJournal();
  readonly keeper = new VolatileKeeper(this.journal);
  readonly keys = softwareKeys();
  undone = 0;
  private current: Tpm | undefined;

  constructor(private readonly catalog: Catalog) {}

  get tpm(): Tpm {
    return this.current ?? assert.fail();
  }

  async begin(): Promise<void> {
    const tpm = (this.current = await this.load());
    tpm.power.powered = true;
    this.keeper.begin(tpm);
    assert.equal(await this.execute(frame(Startup, { startupType: TPM_SU.CLEAR }), 0), 0);
    for (const nvIndex of [0x01500000, 0x01500001]) {
      const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: ORDERLY, authPolicy: none, dataSize: 8 } as const;
      assert.equal(await this.execute(frame(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo }), 0), 0);
    }
  }

  /** Executes a command, or undoes it: its response code, undefined if it was undone. */
  async execute(bytes: Buffer, locality: number): Promise<number | undefined> {
    const observer = { begin: () => undefined, failed: (what: string, error: unknown) => assert.fail(`${what}: ${String(error)}`) };
    const transaction = new Transaction(this.tpm, this.keeper, { token: TOKEN });
    try {
      return codeOf(await new Dispatcher(this.tpm, servedCommands, observer).execute(bytes, locality, transaction));
    } catch (error) {
      assert.ok(error instanceof NotDurable, String(error));
      this.undone++;
      this.current = await transaction.undo(() => this.load());
      return undefined;
    }
  }

  async load(): Promise<Tpm> {
    const fresh = new Tpm({ records: this.records, keys: this.keys, limits: defaultLimits, properties: providersOf(this.catalog, {}) });
    await fresh.load();
    return fresh;
  }

  async agrees(): Promise<void> {
    const live = sectionsOf(this.tpm);
    const kept = this.journal.read() ?? assert.fail();
    assert.deepEqual(plain(applyChanges(kept.records)), live, 'the journal holds the state');

    const resumed = (await this.keeper.resume(() => this.load())) ?? assert.fail();
    assert.deepEqual(sectionsOf(resumed), live, 'another process goes on from the journal where this one is');

    const time = this.tpm.clock.time;
    const snapshot = new VolatileState(takeVolatile(this.tpm));
    const restored = await this.load();
    await snapshot.putInto(restored);
    assert.deepEqual(without(sectionsOf(restored), 'clock', 'commits'), without(live, 'clock', 'commits'), 'a snapshot holds the state');
    assert.ok(restored.clock.time >= time && restored.clock.time <= this.tpm.clock.time, 'Time goes on from where it stood');
    assert.equal(restored.clock.restartCount, this.tpm.clock.restartCount);
    assert.equal(restored.clock.epoch, this.tpm.clock.epoch);
  }
}

describe('the sections of the volatile state', function () {
  this.timeout(60_000);
  let catalog: Catalog;
  before(async () => {
    catalog = await catalogOf([statement(['kernel'], { good: true })]);
  });

  it('are the same in journal, snapshot and the TPM itself, also after a command that was undone', async () => {
    let undone = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const machine = new Machine(catalog);
        await machine.begin();
        for (const { step, diskFails } of all) {
          const before = sectionsOf(machine.tpm);
          machine.records.failure = diskFails ? new Error('the disk is full') : undefined;
          const code = await machine.execute(step.bytes, step.locality);
          if (code === undefined) assert.deepEqual(sectionsOf(machine.tpm), before, 'nothing has happened');
          machine.records.failure = undefined;
          await machine.agrees();
        }
        undone += machine.undone;
      }),
      { numRuns: 40 },
    );
    assert.ok(undone > 0);
  });

  it('of every module are read by it alone', async () => {
    const machine = new Machine(catalog);
    await machine.begin();
    const owners = new Map<string, number>();
    machine.tpm.modules.forEach((module, position) => {
      for (const { key } of new SectionChanges().collect([module])) {
        assert.ok(!owners.has(key), `two modules have ${key}`);
        owners.set(key, position);
      }
      assert.equal(module.writeSections === undefined, module.readSections === undefined);
    });
    assert.ok(owners.size > 0);
  });
});
