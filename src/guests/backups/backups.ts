// Backups of guests: taken, brought back, and what to do when there is none.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { wrapSecret } from '../../crypto/recovery-key.js';
import { EXIT, Failure } from '../../failure.js';
import { openRecords, salvageRecords, sealRecords, type LostRecord, type Salvage } from '../../store/guest-copy.js';
import type { HostStore, StoredGuest } from '../../store/host-store.js';
import { ESSENTIAL_RECORDS, isChipBound } from '../../vtpm/persistence/recovery.js';
import type { AuditSink } from '../../host/audit-log.js';
import { encodeBackup, openBackup, readBackup, recoveryContext, type Backup } from './document.js';
import type { Guest } from '../guest.js';
import type { GuestFactory } from '../factory.js';
import type { GuestRegistry } from '../registry.js';
import type { PolicyService } from '../policies/service.js';

export interface BackupSurroundings {
  readonly guests: GuestRegistry;
  readonly store: HostStore;
  readonly factory: GuestFactory;
  readonly policies: PolicyService;
  readonly audit: AuditSink;
  /** Where damaged records go before a repair, as they were. */
  readonly damagedDirectory: string;
}

/** What is imported, and how. */
export interface ImportRequest {
  readonly backup: string;
  /** For a backup whose chip is not there: the state key, and the recovery key (public) that its successor is wrapped for. */
  readonly recovered?: { readonly stateKey: Buffer; readonly recoveryKey: Buffer } | undefined;
  /** The guest may take the place of itself. */
  readonly replace: boolean;
}

type Recovered = NonNullable<ImportRequest['recovered']>;

export interface Imported {
  readonly guest: Guest;
  /** Keys of records that could not be taken over because they are keys of another chip. */
  readonly lost: readonly string[];
}

export interface Repair {
  readonly applied: boolean;
  readonly kept: number;
  readonly lost: readonly LostRecord[];
  /** False: it is not known which other records are missing or from an older time. */
  readonly complete: boolean;
  /** Where the damaged records were kept; null if nothing was applied. */
  readonly savedAs: string | null;
}

/** Exports, imports and repairs guests. Methods reject with a {@link Failure}. */
export class GuestBackups {
  constructor(private readonly parts: BackupSurroundings) {}

  /** A backup of what is durable of a guest at this moment, which may run. A guest whose records are damaged is refused. */
  async export(name: string): Promise<{ backup: string; recovery: boolean }> {
    const { guests, store, factory, audit } = this.parts;
    const { meta } = guests.get(name);
    const stored = await store.storedGuest(meta);
    return withKey(await factory.stateKey(name, stored.keyBlobs), async (stateKey) => {
      await openRecords(meta.id, stateKey, stored.sealed);
      const backup = encodeBackup(stored, stateKey, new Date());
      await audit.note({ event: 'guest-exported', guest: name, id: meta.id });
      return { backup, recovery: stored.recovery !== null };
    });
  }

  /**
   * Brings a backup back. With the chip that it was made with all is as it was. With the state key alone the guest gets new keys in
   * this chip: NV, hierarchies and the like are as they were, its own keys are lost. It is off afterwards.
   */
  async import({ backup: text, recovered, replace }: ImportRequest): Promise<Imported> {
    const { guests, store, factory, audit } = this.parts;
    const backup = readBackup(text);
    const { guest: restored, lost } = await this.open(backup, recovered);
    const meta = { ...restored.meta, autostart: false };
    const { id, name } = meta;
    const guest = await guests.restore(meta, replace, async () => {
      const detail = `as of ${backup.exported}${recovered === undefined ? '' : ', with the recovery key'}${replace ? ', replacing what there was' : ''}`;
      await audit.note({ event: 'guest-imported', guest: name, id, detail });
      await factory.acceptRestored(id);
      await store.restoreGuest({ ...restored, meta });
    });
    return { guest, lost };
  }

  /**
   * What is left of a guest whose records are damaged; with `apply` it goes on with that. What was there is kept in a file. The guest
   * must be off.
   */
  repair(name: string, apply: boolean): Promise<Repair> {
    const { guests, store, factory } = this.parts;
    const guest = guests.get(name);
    return guest.whileOff(async (journal) => {
      const stored = await store.storedGuest(guest.meta);
      return withKey(await factory.stateKey(name, stored.keyBlobs), async (stateKey) => {
        const found = salvageRecords(guest.meta.id, stateKey, stored.sealed);
        const problem = await this.damage(stored, stateKey);
        const report = { kept: found.kept.size, lost: found.lost, complete: problem === undefined };
        if (problem === undefined || !apply) return { ...report, applied: false, savedAs: null };
        requireRepairable(name, found);
        const savedAs = await this.applyRepair(stored, stateKey, found);
        await journal.remove();
        return { ...report, applied: true, savedAs };
      });
    });
  }

  private async damage({ meta, sealed }: StoredGuest, stateKey: Buffer): Promise<unknown> {
    // A guest that has never been started has no records, and that is not damage.
    return openRecords(meta.id, stateKey, sealed).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  private async applyRepair(stored: StoredGuest, stateKey: Buffer, { kept, lost, lastSequence }: Salvage): Promise<string> {
    const { store, factory, audit, damagedDirectory } = this.parts;
    const { id, name } = stored.meta;
    await mkdir(damagedDirectory, { recursive: true, mode: 0o700 });
    const path = join(damagedDirectory, `${name}-${new Date().toISOString().replaceAll(':', '')}.json`);
    await writeFile(path, encodeBackup(stored, stateKey, new Date()), { mode: 0o600, flag: 'wx', flush: true });
    const detail = `${kept.size.toString()} records kept, lost: ${lost.map(({ record }) => record).join(', ') || 'none that is known'}`;
    await audit.note({ event: 'guest-repaired', guest: name, id, detail });
    const sealed = await sealRecords(id, stateKey, kept, lastSequence);
    await factory.acceptRestored(id);
    await store.restoreGuest({ ...stored, sealed });
    return path;
  }

  private async open(backup: Backup, recovered: ImportRequest['recovered']): Promise<{ guest: StoredGuest; lost: string[] }> {
    if (recovered !== undefined) return this.recover(openBackup(backup, recovered.stateKey), recovered);
    return withKey(await this.parts.factory.stateKey(backup.name, backup.keyBlobs), async (stateKey) => {
      const guest = openBackup(backup, stateKey);
      await openRecords(backup.id, stateKey, guest.sealed);
      return { guest, lost: [] };
    });
  }

  /** The guest with new keys in this chip and all records that are of use without the old one. */
  private async recover(
    { meta, sealed }: StoredGuest,
    { stateKey: oldKey, recoveryKey }: Recovered,
  ): Promise<{ guest: StoredGuest; lost: string[] }> {
    const { factory } = this.parts;
    const records = await openRecords(meta.id, oldKey, sealed);
    const lost = records.map(([key]) => key).filter(isChipBound);
    const kept = new Map(records.filter(([key]) => !isChipBound(key)));
    const keyBlobs = await factory.provision(meta.id, this.parts.policies.inForce(meta));
    return withKey(await factory.stateKey(meta.name, keyBlobs), async (stateKey) => {
      const recovery = await wrapSecret(recoveryKey, stateKey, recoveryContext(meta.id));
      return { guest: { meta, keyBlobs, recovery, sealed: await sealRecords(meta.id, stateKey, kept, 0n) }, lost };
    });
  }
}

function requireRepairable(name: string, { kept, newerFormat }: Salvage): void {
  const refused = (why: string, hint: string): Failure =>
    new Failure({ code: 'not_repairable', what: `repairing guest ${name}`, why, hint, exit: EXIT.failed });
  if (newerFormat) throw refused('it has records of a newer format', 'use the newer tpmux that wrote it');
  const missing = ESSENTIAL_RECORDS.filter((key) => !kept.has(key));
  if (missing.length === 0) return;
  throw refused(
    `the record ${missing.join(', ')} is lost, without which it would be another TPM`,
    "bring a backup back with 'tpmux guest import --replace', or remove the guest",
  );
}

async function withKey<T>(stateKey: Buffer, use: (stateKey: Buffer) => Promise<T>): Promise<T> {
  try {
    return await use(stateKey);
  } finally {
    stateKey.fill(0);
  }
}
