// The state of a vTPM taken out, or left behind by a process that was killed, and put into another object: every later command gives the
// same answers.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { KeyManagement } from '../../../src/keys/key-management.js';
import { SoftwareEngine } from '../../../src/keys/software.js';
import {
  ClockRateAdjust,
  ContextLoad,
  ContextSave,
  CreatePrimary,
  EventSequenceComplete,
  GetCapability,
  HashSequenceStart,
  HierarchyChangeAuth,
  HierarchyControl,
  HMAC_Start,
  NV_DefineSpace,
  NV_Increment,
  NV_Read,
  NV_ReadPublic,
  NV_Write,
  PCR_Extend,
  PCR_Read,
  PCR_SetAuthValue,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyGetDigest,
  PolicyPCR,
  ReadClock,
  ReadPublic,
  SequenceComplete,
  SequenceUpdate,
  Shutdown,
  Startup,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_NT, TPM_RH, TPM_SE, TPM_SU, TPMA_NV, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { StateRefused } from '../../../src/vtpm/guest-tpm.js';
import { VolatileJournal } from '../../../src/store/volatile-journal.js';
import { defaultLimits } from '../../../src/vtpm/limits.js';
import { VTpm } from '../../../src/vtpm/vtpm.js';
import { Account } from '../../../src/hardware/chip/usage.js';
import { codeOf, type Execute, frame, none, run } from '../../support/frames.js';
import { aesCfb, ClientSession, passwordUse, runWithSessions } from '../../support/sessions.js';
import { asParent, eccTemplate, hmacTemplate } from '../../support/templates.js';
import { volatileStep } from './volatile-steps.js';
import { MemoryRecords } from '../../support/vtpm.js';

const { SHA256 } = TPM_ALG;
const all = [{ hash: SHA256, pcrSelect: Buffer.from('ff0000', 'hex') }];

/** One guest: its keys and identity; any number of TPM objects may be made of its state. */
class Guest {
  readonly failures: unknown[] = [];
  readonly keys: KeyManagement;

  constructor(readonly guestId: string) {
    const software = new SoftwareEngine();
    this.keys = new KeyManagement({ hardware: software, software, blobKey: randomBytes(32) });
  }

  /** An older state may be put back. */
  snapshots = false;
  /** Where the journals of its objects are. */
  readonly directory = mkdtempSync(join(tmpdir(), 'tpmux-snapshot-'));
  private readonly journalKey = randomBytes(32);
  private readonly journals = new Map<VTpm, string>();
  private opened = 0;

  /** @param left the journal of another object, which this one finds */
  async open(records: MemoryRecords, left?: string): Promise<VTpm> {
    const path = join(this.directory, (this.opened++).toString());
    if (left !== undefined) copyFileSync(left, path);
    const journal = new VolatileJournal({ path, guestId: this.guestId, bootId: Buffer.alloc(16) }, this.journalKey);
    const observer = {
      failed: (what: string, error: unknown): void => {
        this.failures.push([what, error]);
      },
    };
    const { keys, guestId } = this;
    const snapshots = (): boolean => this.snapshots;
    const tpm = await VTpm.open({ records, keys, limits: defaultLimits, guestId, journal, snapshots }, new Account('g'), observer);
    this.journals.set(tpm, path);
    return tpm;
  }

  /** A new TPM, started. */
  async begin(): Promise<{ tpm: VTpm; records: MemoryRecords; execute: Execute }> {
    const records = new MemoryRecords();
    const tpm = await this.open(records);
    await tpm.powerOn();
    const execute: Execute = (bytes, locality = 0) => tpm.execute(bytes, locality);
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    return { tpm, records, execute };
  }

  /** Another object with the state of `tpm`. */
  copy(tpm: VTpm, records: MemoryRecords, how: 'blobs' | 'journal'): Promise<Execute> {
    return how === 'blobs' ? this.copyBlobs(tpm) : this.copyJournal(tpm, records);
  }

  /** As after kill -9 of the process: what is on the disk is all there is. */
  private async copyJournal(tpm: VTpm, records: MemoryRecords): Promise<Execute> {
    const other = await this.open(records.copy(), this.journals.get(tpm));
    assert.ok(await other.resume());
    return (bytes, locality = 0) => other.execute(bytes, locality);
  }

  private async copyBlobs(tpm: VTpm): Promise<Execute> {
    const [permanent, volatile] = [await tpm.getState('permanent'), await tpm.getState('volatile')];
    const other = await this.open(new MemoryRecords());
    await other.setState('volatile', volatile);
    await other.setState('permanent', permanent);
    await other.init(true);
    return (bytes, locality = 0) => other.execute(bytes, locality);
  }
}

/** A session as its caller knows it, for the other TPM. */
const twin = (session: ClientSession): ClientSession => Object.assign(Object.create(ClientSession.prototype) as ClientSession, session);

describe('the state of a vTPM', () => {
  let guest: Guest;
  beforeEach(() => {
    guest = new Guest('11111111-1111-4111-8111-111111111111');
  });
  afterEach(() => {
    rmSync(guest.directory, { recursive: true });
    assert.deepEqual(guest.failures, []);
  });

  const primary = (hierarchy: number, inPublic: Parameters<typeof frame<typeof CreatePrimary>>[1]['inPublic'], data = none) => ({
    primaryHandle: hierarchy,
    inSensitive: { userAuth: Buffer.from('auth'), data },
    inPublic,
    outsideInfo: none,
    creationPCR: [],
  });

  async function isComplete(how: 'blobs' | 'journal'): Promise<void> {
    const { tpm, records, execute } = await guest.begin();
    const nv = 0x01500001;
    const counter = 0x01500002;
    const attributes = (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.ORDERLY | TPMA_NV.NO_DA) >>> 0;
    const space = { authHandle: TPM_RH.OWNER, auth: none };
    const nvPublic = { nameAlg: SHA256, authPolicy: none, dataSize: 8 } as const;
    await run(execute, NV_DefineSpace, { ...space, publicInfo: { ...nvPublic, nvIndex: nv, attributes } });
    await run(execute, NV_DefineSpace, {
      ...space,
      publicInfo: { ...nvPublic, nvIndex: counter, attributes: (attributes | (TPM_NT.COUNTER << 4)) >>> 0 },
    });
    await run(execute, NV_Write, { authHandle: nv, nvIndex: nv, data: Buffer.from('orderly!'), offset: 0 });
    for (let i = 0; i < 3; i++) await run(execute, NV_Increment, { authHandle: counter, nvIndex: counter });
    await run(execute, HierarchyChangeAuth, { authHandle: TPM_RH.PLATFORM, newAuth: Buffer.from('platform') });
    await run(execute, PCR_SetAuthValue, { pcrHandle: 20, auth: Buffer.from('pcr') });
    for (const pcrHandle of [0, 7, 16]) {
      await run(execute, PCR_Extend, { pcrHandle, digests: [{ hashAlg: SHA256, digest: Buffer.alloc(32, pcrHandle + 1) }] });
    }
    const key = await run(execute, CreatePrimary, primary(TPM_RH.OWNER, asParent(eccTemplate())));
    const nullKey = await run(execute, CreatePrimary, primary(TPM_RH.NULL, asParent(eccTemplate())));
    const mac = await run(execute, CreatePrimary, primary(TPM_RH.OWNER, hmacTemplate()));
    const hashing = await run(execute, HashSequenceStart, { auth: none, hashAlg: SHA256 });
    await run(execute, SequenceUpdate, { sequenceHandle: hashing.sequenceHandle, buffer: Buffer.alloc(100, 5) });
    const events = await run(execute, HashSequenceStart, { auth: none, hashAlg: TPM_ALG.NULL });
    await run(execute, SequenceUpdate, { sequenceHandle: events.sequenceHandle, buffer: Buffer.alloc(77, 6) });
    const macing = await runWithSessions(
      execute,
      HMAC_Start,
      { handle: mac.objectHandle, auth: none, hashAlg: SHA256 },
      [passwordUse('auth')],
      new Map([[mac.objectHandle, mac.name]]),
    );
    const hmac = await ClientSession.start(execute, { symmetric: aesCfb, salt: { handle: key.objectHandle, publicArea: key.outPublic } });
    const policy = await ClientSession.start(execute, { type: TPM_SE.POLICY });
    await run(execute, PolicyPCR, { policySession: policy.handle, pcrDigest: none, pcrs: all }, []);
    await run(execute, PolicyAuthValue, { policySession: policy.handle }, []);
    await run(execute, PolicyCommandCode, { policySession: policy.handle, code: TPM_CC.Unseal }, []);
    const savedObject = (await run(execute, ContextSave, { saveHandle: nullKey.objectHandle })).context;
    const away = await ClientSession.start(execute);
    const savedSession = (await run(execute, ContextSave, { saveHandle: away.handle })).context;

    const copy = await guest.copy(tpm, records, how);
    const sameAnswer = async (bytes: Buffer, locality = 0): Promise<Buffer> => {
      const [one, two] = [await execute(bytes, locality), await copy(bytes, locality)];
      assert.equal(two.toString('hex'), one.toString('hex'));
      return one;
    };
    for (const pcrSelect of ['ff0000', '00ff00', '0000ff']) {
      await sameAnswer(frame(PCR_Read, { pcrSelectionIn: [{ hash: SHA256, pcrSelect: Buffer.from(pcrSelect, 'hex') }] }));
    }
    for (const property of [0x80000000, 0x02000000, 0x03000000, 0x01000000]) {
      await sameAnswer(frame(GetCapability, { capability: TPM_CAP.HANDLES, property, propertyCount: 100 }));
    }
    for (const property of [0x100, 0x200])
      await sameAnswer(frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property, propertyCount: 127 }));
    for (const { objectHandle } of [key, nullKey, mac]) await sameAnswer(frame(ReadPublic, { objectHandle }));
    await sameAnswer(frame(PolicyGetDigest, { policySession: policy.handle }));
    await sameAnswer(frame(NV_Read, { authHandle: nv, nvIndex: nv, size: 8, offset: 0 }));
    await sameAnswer(frame(NV_Read, { authHandle: counter, nvIndex: counter, size: 8, offset: 0 }));
    await sameAnswer(
      frame(SequenceComplete, { sequenceHandle: hashing.sequenceHandle, buffer: Buffer.from('end'), hierarchy: TPM_RH.NULL }),
    );
    await sameAnswer(frame(EventSequenceComplete, { pcrHandle: 9, sequenceHandle: events.sequenceHandle, buffer: Buffer.from('end') }));
    await sameAnswer(frame(SequenceUpdate, { sequenceHandle: macing.sequenceHandle, buffer: Buffer.from('mac') }));
    await sameAnswer(frame(SequenceComplete, { sequenceHandle: macing.sequenceHandle, buffer: none, hierarchy: TPM_RH.NULL }));
    await sameAnswer(frame(ContextLoad, { context: savedObject }));
    await sameAnswer(frame(ContextLoad, { context: savedSession }));
    assert.equal(codeOf(await sameAnswer(frame(ContextLoad, { context: savedSession }))), TPM_RC.HANDLE | 0x1c0);
    // Platform authorization is the one that was set.
    const clear = frame(HierarchyControl, { authHandle: TPM_RH.PLATFORM, enable: TPM_RH.OWNER, state: 0 });
    assert.equal(codeOf(await sameAnswer(clear)) & 0xbf, TPM_RC.BAD_AUTH);
    // A salted session with parameter encryption goes on, in each of the two for itself.
    for (const [side, session] of [
      [execute, hmac],
      [copy, twin(hmac)],
    ] as const) {
      const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.encrypt | TPMA_SESSION.audit;
      const names = new Map([[nv, (await run(side, NV_ReadPublic, { nvIndex: nv })).nvName]]);
      for (let i = 0; i < 3; i++) {
        const request = { authHandle: nv, nvIndex: nv, size: 8, offset: 0 };
        const { data } = await runWithSessions(side, NV_Read, request, [{ session, attributes }], names);
        assert.equal(data.toString(), 'orderly!');
      }
    }
  }

  for (const how of ['blobs', 'journal'] as const) {
    it(`is complete with ${how}: objects, sequences, sessions, PCRs, NV, hierarchies`, () => isComplete(how));

    it(`answers with ${how} whatever comes as the one it was taken from`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(volatileStep, { minLength: 1, maxLength: 40 }),
          fc.array(volatileStep, { minLength: 1, maxLength: 40 }),
          async (before, after) => {
            const { tpm, records, execute } = await guest.begin();
            for (const { bytes, locality } of before) await execute(bytes, locality);
            const copy = await guest.copy(tpm, records, how);
            for (const { bytes, locality } of after) {
              assert.equal((await copy(bytes, locality)).toString('hex'), (await execute(bytes, locality)).toString('hex'));
            }
          },
        ),
        { numRuns: 60 },
      );
    });

    it(`keeps the time with ${how}: Clock and Time go on, the counters too`, async () => {
      const { tpm, records, execute } = await guest.begin();
      await run(execute, ClockRateAdjust, { auth: TPM_RH.OWNER, rateAdjust: 1 });
      const before = (await run(execute, ReadClock, {})).currentTime;
      const copy = await guest.copy(tpm, records, how);
      const after = (await run(copy, ReadClock, {})).currentTime;
      assert.ok(after.time >= before.time && after.time < before.time + 5000n);
      assert.ok(after.clockInfo.clock >= before.clockInfo.clock);
      assert.deepEqual({ ...after.clockInfo, clock: 0n }, { ...before.clockInfo, clock: 0n });
    });
  }

  it('is put in place at once: permanent and volatile state together, or none', async () => {
    guest.snapshots = true;
    const { tpm, records, execute } = await guest.begin();
    const permanent = await tpm.getState('permanent');
    const space = { authHandle: TPM_RH.OWNER, auth: none };
    const publicInfo = {
      nvIndex: 0x01500001,
      nameAlg: SHA256,
      attributes: (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA) >>> 0,
      authPolicy: none,
      dataSize: 8,
    } as const;
    await run(execute, NV_DefineSpace, { ...space, publicInfo });
    const read = frame(NV_Read, { authHandle: publicInfo.nvIndex, nvIndex: publicInfo.nvIndex, size: 8, offset: 0 });
    await tpm.powerOff();
    await tpm.setState('permanent', permanent);
    // Power-on instead of INIT: what was given is forgotten.
    await tpm.powerOn();
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(codeOf(await execute(read)), TPM_RC.NV_UNINITIALIZED);
    await tpm.powerOff();
    await tpm.setState('permanent', permanent);
    const { commits } = records;
    await tpm.init(false);
    assert.equal(records.commits, commits + 1);
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    assert.equal(codeOf(await execute(read)) & 0xbf, TPM_RC.HANDLE);
  });

  it('that STORE_VOLATILE kept comes with every INIT until one deletes it', async () => {
    guest.snapshots = true;
    const { tpm, records, execute } = await guest.begin();
    await run(execute, PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: SHA256, digest: Buffer.alloc(32, 9) }] });
    const read = frame(PCR_Read, { pcrSelectionIn: [{ hash: SHA256, pcrSelect: Buffer.from('000001', 'hex') }] });
    const value = await execute(read);
    await tpm.storeVolatile();
    for (const deleteVolatile of [false, false, true]) {
      await tpm.powerOff();
      await tpm.init(deleteVolatile);
      assert.deepEqual(await execute(read), value);
    }
    await tpm.init(false);
    assert.equal(codeOf(await execute(read)), TPM_RC.INITIALIZE);
    await run(execute, Startup, { startupType: TPM_SU.CLEAR });
    await tpm.storeVolatile();
    await run(execute, Shutdown, { shutdownType: TPM_SU.CLEAR });
    // Another process.
    const other = await guest.open(records.copy());
    await other.powerOn();
    assert.equal(codeOf(await other.execute(read, 0)), TPM_RC.INITIALIZE);
    await other.init(true);
    assert.equal(codeOf(await other.execute(read, 0)), TPM_RC.SUCCESS);
  });

  it('is of one guest only', async () => {
    const { tpm } = await guest.begin();
    const blob = await tpm.getState('volatile');
    const other = new Guest('22222222-2222-4222-8222-222222222222');
    const stranger = await other.open(new MemoryRecords());
    await assert.rejects(
      stranger.setState('volatile', blob),
      new StateRefused('it belongs to guest "11111111-1111-4111-8111-111111111111"'),
    );
    const impostor = new Guest(guest.guestId);
    await assert.rejects((await impostor.open(new MemoryRecords())).setState('volatile', blob), /not authentic/);
    await assert.rejects(tpm.setState('volatile', blob), /has power/);
    await tpm.powerOff();
    for (let at = 0; at < blob.length; at += 97) {
      const edited = Buffer.from(blob);
      edited[at] = (edited[at] ?? 0) ^ 0x10;
      await assert.rejects(tpm.setState('volatile', edited), StateRefused);
    }
    assert.ok(!blob.includes(Buffer.from('platform')));
  });
});
