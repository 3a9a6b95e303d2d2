// A vTPM for tests: no chip, no store; all keys are software keys.
import { randomBytes } from 'node:crypto';
import { Account } from '../../src/hardware/chip/usage.js';
import { KeyManagement } from '../../src/keys/key-management.js';
import { SoftwareEngine } from '../../src/keys/software.js';
import type { GuestProviders } from '../../src/properties/provider-set/guest-providers.js';
import type { GuestRecords, RecordChanges } from '../../src/store/guest-records.js';
import type { VolatileJournal } from '../../src/store/volatile-journal.js';
import { TPM_SU } from '../../src/tpm/constants/index.js';
import { Startup } from '../../src/tpm/commands/index.js';
import { describeResponseCode } from '../../src/tpm/response-code.js';
import { defaultLimits, type Limits } from '../../src/vtpm/limits.js';
import { VTpm } from '../../src/vtpm/vtpm.js';
import { codeOf, type Execute, frame } from './frames.js';

/** Records in memory. What goes in and out is copied, as a disk would. */
export class MemoryRecords implements GuestRecords {
  /** Number of commits so far. */
  commits = 0;
  /** While set, every commit fails with it. */
  failure: Error | undefined;
  /** While set, nothing can be read. */
  unreadable: Error | undefined;
  private readonly records = new Map<string, Buffer>();

  load(prefix: string): Promise<[key: string, value: Buffer][]> {
    if (this.unreadable !== undefined) return Promise.reject(this.unreadable);
    const found = [...this.records]
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, value]): [string, Buffer] => [key, Buffer.from(value)]);
    return Promise.resolve(found.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  commit(changes: RecordChanges): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    this.commits++;
    for (const [key, value] of changes) {
      if (value === null) this.records.delete(key);
      else this.records.set(key, Buffer.from(value));
    }
    return Promise.resolve();
  }

  /** Another set with the same records: the disk at this moment. */
  copy(): MemoryRecords {
    const other = new MemoryRecords();
    for (const [key, value] of this.records) other.records.set(key, Buffer.from(value));
    return other;
  }
}

/** What {@link openTestTpm} takes; everything else is new. */
export interface TestTpmOptions {
  readonly records?: MemoryRecords;
  /** Where the state is kept instead of `records`. */
  readonly store?: GuestRecords;
  readonly limits?: Partial<Limits>;
  readonly keys?: KeyManagement;
  /** Where commands are counted; needed where the keys are a chip's. */
  readonly account?: Account;
  /** False leaves the TPM off; true (the default) powers it on and sends TPM2_Startup(CLEAR). */
  readonly startup?: boolean;
  /** What drives its PCRs; default: `digest` alone. */
  readonly properties?: GuestProviders;
  /** Where its volatile state outlives it. */
  readonly journal?: VolatileJournal;
  /** An older state may be put back; default: no. */
  readonly snapshots?: boolean;
}

/** A vTPM and what it stands on. */
export interface TestTpm {
  readonly tpm: VTpm;
  readonly records: MemoryRecords;
  readonly keys: KeyManagement;
  /** What went wrong inside: a test that does not expect it should find it empty. */
  readonly failures: readonly { readonly what: string; readonly error: unknown }[];
  /** Sends one frame; locality 0 unless given. */
  readonly execute: Execute;
  /** Power is cut and comes back; TPM2_Startup is the caller's. */
  powerCycle(): Promise<void>;
  /** Another process opens the same records, with the same keys. */
  reopen(): Promise<TestTpm>;
}

/** A new vTPM, powered and started, or one over the records of another. */
export async function openTestTpm(options: TestTpmOptions = {}): Promise<TestTpm> {
  const { records = new MemoryRecords(), startup = true } = options;
  const keys = options.keys ?? softwareKeys();
  const failures: { what: string; error: unknown }[] = [];
  const observer = {
    failed: (what: string, error: unknown): void => {
      failures.push({ what, error });
    },
  };
  const tpm = await VTpm.open(
    {
      records: options.store ?? records,
      keys,
      limits: { ...defaultLimits, ...options.limits },
      properties: options.properties,
      journal: options.journal,
      snapshots: () => options.snapshots === true,
    },
    options.account ?? new Account('test'),
    observer,
  );
  const execute: Execute = (bytes, locality = 0) => tpm.execute(bytes, locality);
  if (startup) {
    await tpm.powerOn();
    const code = codeOf(await execute(frame(Startup, { startupType: TPM_SU.CLEAR })));
    if (code !== 0) throw new Error(`TPM2_Startup: ${describeResponseCode(code)}`, { cause: failures[0]?.error });
  }
  return {
    tpm,
    records,
    keys,
    failures,
    execute,
    powerCycle: () => tpm.powerOn(),
    reopen: () => openTestTpm({ ...options, records, keys }),
  };
}

export function softwareKeys(): KeyManagement {
  const software = new SoftwareEngine();
  return new KeyManagement({ hardware: software, software, blobKey: randomBytes(32) });
}
