// Failed authorizations that dictionary-attack protection or a PIN index counts (Part 1, 19.8 and 37.2.8), until they are counted durably.
import { list, struct, uint32, uint8 } from '../../tpm/schema.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { DictionaryAttack } from './dictionary-attack.js';
import type { DurableState } from './durable.js';
import type { NvMemory } from './nv.js';

/** What counts a failure; the position of a kind here is stored. */
const kinds = ['protected', 'lockout', 'pin'] as const;

/** One failure: of a protected entity, of lockoutAuth, or of a PIN index; `nvIndex` is 0 but for the latter. */
export interface FailedAuthorization {
  readonly kind: (typeof kinds)[number];
  readonly nvIndex: number;
}

/** More than one command can have. */
const MAX_FAILURES = 64;
const owedFailures = section('failed-authorizations', list(struct({ kind: uint8, nvIndex: uint32 }), MAX_FAILURES));

/** Who counts. */
export interface FailureCounters {
  readonly dictionaryAttack: DictionaryAttack;
  readonly nv: NvMemory;
}

/**
 * Failures whose count was undone with their command, because it could not be written down. While there are any, and while nothing can be
 * written, what they protect is not compared: otherwise a guess would cost nothing.
 */
export class FailedAuthorizations implements StateModule {
  /** Nothing can be written down at present. */
  blocked = false;
  private noted: FailedAuthorization[] = [];
  private owed: readonly FailedAuthorization[] = [];

  /** A new command: what the one before noted is counted. */
  begin(): void {
    this.noted = [];
  }

  /** Counts one, durable with the command. */
  fail(failure: FailedAuthorization, counters: FailureCounters): void {
    this.noted.push(failure);
    count(failure, counters);
  }

  /** The command is going to be undone: what it noted is owed. */
  oweNoted(): void {
    this.owed = [...this.owed, ...this.noted].slice(0, MAX_FAILURES);
    this.noted = [];
  }

  /** Takes over what is owed when state was read anew. */
  takeOver(before: FailedAuthorizations): void {
    this.owed = before.owed;
    this.blocked = before.blocked;
  }

  /** Whether {@link requireCountable} refuses. */
  get pending(): boolean {
    return this.blocked || this.owed.length > 0;
  }

  /** Counts what is owed, to be committed. If that fails it is noted, as that of a command. */
  settle(counters: FailureCounters): void {
    for (const failure of this.owed) this.fail(failure, counters);
    this.owed = [];
  }

  /**
   * `TPM_RC_RETRY`, or `TPM_RC_NV_UNAVAILABLE` while NV is off, bare, if a failure could not be counted. To be called before what counts
   * failures is compared.
   */
  requireCountable({ available }: Pick<DurableState, 'available'>): void {
    if (!available) throw new TpmError(TPM_RC.NV_UNAVAILABLE);
    if (this.pending) throw new TpmError(TPM_RC.RETRY);
  }

  writeSections(writer: SectionWriter): void {
    const { owed } = this;
    writer.one(owedFailures, () => owed.map(({ kind, nvIndex }) => ({ kind: kinds.indexOf(kind), nvIndex })), [owed]);
  }

  readSections(reader: SectionReader): void {
    this.owed = reader.one(owedFailures).map(({ kind, nvIndex }) => ({ kind: kinds[kind] ?? 'protected', nvIndex }));
  }
}

function count({ kind, nvIndex }: FailedAuthorization, { dictionaryAttack, nv }: FailureCounters): void {
  if (kind === 'protected') dictionaryAttack.failEntity();
  else if (kind === 'lockout') dictionaryAttack.failLockoutAuth();
  else {
    const index = nv.find(nvIndex);
    if (index !== undefined) nv.setPinCount(index, (index.data.readUInt32BE(0) + 1) >>> 0);
  }
}
