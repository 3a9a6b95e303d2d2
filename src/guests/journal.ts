// The volatile state of a guest over the end of a daemon: where it is kept, and what comes of it at the next start.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EXIT, Failure } from '../failure.js';
import { JournalRefused, JournalUnwritable } from '../store/state-journal.js';
import { deriveJournalKey, VolatileJournal } from '../store/volatile-journal.js';
import type { OpenedGuest } from './factory.js';

/** {@link Failure.code} of a guest whose volatile state is not gone on with. */
export const VOLATILE_REFUSED = 'volatile_state_refused';

/** Where the journals of all guests are. */
export interface JournalSite {
  readonly directory: string;
  /** See {@link readBootId}. */
  readonly bootId: Buffer;
}

/** What tells one boot of the host from another; 16 bytes. */
export async function readBootId(): Promise<Buffer> {
  const text = await readFile('/proc/sys/kernel/random/boot_id', 'latin1');
  return Buffer.from(text.trim().replaceAll('-', ''), 'hex');
}

/** The journal of one guest. */
export class GuestJournal {
  private readonly path: string;

  constructor(
    private readonly site: JournalSite,
    private readonly guest: { readonly id: string; readonly name: string },
  ) {
    this.path = join(site.directory, `${guest.id}.journal`);
  }

  /** For the guest's TPM. No view of the key is kept. */
  open(stateKey: Buffer): VolatileJournal {
    const key = deriveJournalKey(stateKey);
    try {
      return new VolatileJournal({ path: this.path, guestId: this.guest.id, bootId: this.site.bootId }, key);
    } finally {
      key.fill(0);
    }
  }

  /** Lets the guest go on where it was when the daemon before this one ended, or else gives it power. Resolves with which it was. */
  async start({ resume, tpm }: OpenedGuest): Promise<'resumed' | 'started'> {
    try {
      if (await resume()) return 'resumed';
      await tpm.powerOn();
      return 'started';
    } catch (error) {
      throw this.failure(error);
    }
  }

  /** The guest is to be as after a power cycle. */
  async remove(): Promise<void> {
    for (const path of [this.path, `${this.path}.new`]) await rm(path, { force: true });
  }

  private failure(error: unknown): unknown {
    const what = `starting guest ${this.guest.name}`;
    if (error instanceof JournalRefused) {
      return new Failure(
        {
          code: VOLATILE_REFUSED,
          what,
          why: `what it had in memory when the daemon ended, ${this.path}, is refused: ${error.message}`,
          hint: `'tpmux guest reset ${this.guest.name}' starts it as after a power cycle`,
          exit: EXIT.refused,
        },
        { cause: error },
      );
    }
    if (!(error instanceof JournalUnwritable)) return error;
    return new Failure(
      {
        code: 'run_dir_unwritable',
        what,
        why: `${this.path} cannot be written: ${error.message}`,
        hint: 'make room there',
        exit: EXIT.failed,
      },
      { cause: error },
    );
  }
}
