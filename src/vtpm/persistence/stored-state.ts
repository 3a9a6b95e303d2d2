// State that was taken out of a vTPM, on its way back in: checked when it comes, put in place by the next INIT.
import type { GuestRecords } from '../../store/guest-records.js';
import { TpmError } from '../../tpm/response-code.js';
import { StateRefused, type StatePart } from '../guest-tpm.js';
import { decodeRecords, encodeRecords, replaceRecords, type RecordSet, TrialRecords, VolatileState } from './snapshot.js';
import type { NvCounts } from '../state/nv.js';
import { openState, sealState, type StateOwner } from './state-blob.js';
import { Tpm, type TpmParts } from '../tpm.js';
import { JOURNAL_KEY } from './volatile-keeper.js';

/** Record with the volatile state that INIT is to restore. It is no part of the permanent state. */
const VOLATILE_KEY = 'volatile';

/** The state of one guest outside its TPM: blobs, and what they hold until INIT. */
export class StoredState {
  private readonly owner: StateOwner;
  private readonly records: GuestRecords;
  private readonly parts: TpmParts;
  private staged: { permanent?: RecordSet; volatile?: Buffer } = {};

  constructor(parts: TpmParts) {
    this.parts = parts;
    this.records = parts.records;
    this.owner = { guestId: parts.guestId ?? '', key: parts.keys.stateBlobKey };
  }

  /** A blob of the durable records as they are now. */
  async permanentBlob(): Promise<Buffer> {
    const records = new Map(await this.records.load(''));
    records.delete(VOLATILE_KEY);
    records.delete(JOURNAL_KEY);
    return this.seal('permanent', encodeRecords(records));
  }

  /** A blob of volatile state, which is zeroized. */
  volatileBlob(state: Buffer): Buffer {
    return this.seal('volatile', state);
  }

  /**
   * Checks a blob and keeps what is in it for {@link apply}. Rejects with {@link StateRefused}, also if it is older than
   * `now`; what was kept before stays then.
   */
  async accept(part: StatePart, blob: Buffer, now: Tpm): Promise<void> {
    if (part === 'savestate') throw new StateRefused('a TPM 2.0 has no such state');
    const state = openState(this.owner, part, blob);
    if (part === 'volatile') {
      this.requireNotOlder(await this.tryVolatile(state), now);
      this.staged.volatile = state;
      return;
    }
    const records = decodeRecords(state, part);
    const { tpm } = await this.tryOut(records);
    this.requireNotOlder({ generation: tpm.generation.value }, now);
    this.staged.permanent = records;
  }

  /** Whoever has the control channel could take back failed authorizations and used counters with an older state. */
  private requireNotOlder({ generation }: { readonly generation: bigint }, now: Tpm): void {
    if (generation >= now.generation.value || this.parts.snapshots?.() === true) return;
    const missing = now.generation.value - generation;
    throw new StateRefused(
      `it is older than what the guest has, by ${missing.toString()} ${missing === 1n ? 'change' : 'changes'}; 'snapshots: allow' in the guest's policy takes it all the same`,
    );
  }

  /** Whether a TPM can be made of these records. Rejects with {@link StateRefused} if not. */
  private async tryOut(records: RecordSet): Promise<{ tpm: Tpm; trial: TrialRecords }> {
    const trial = new TrialRecords(records);
    const tpm = new Tpm({ ...this.parts, records: trial });
    try {
      await tpm.load();
      return { tpm, trial };
    } catch (error) {
      if (error instanceof TpmError) throw new StateRefused(`a record in it is damaged: ${error.message}`, { cause: error });
      throw error;
    }
  }

  /** The volatile state that `bytes` hold. Rejects with {@link StateRefused} if a TPM cannot go on from it. */
  private async tryVolatile(bytes: Buffer): Promise<VolatileState> {
    const state = new VolatileState(bytes);
    const { tpm } = await this.tryOut(new Map());
    await state.putInto(tpm);
    tpm.objects.flushWhere(() => true);
    return state;
  }

  /** Keeps volatile state durably for {@link apply}. */
  async store(state: Buffer): Promise<void> {
    await this.records.commit(new Map([[VOLATILE_KEY, state]]));
    state.fill(0);
  }

  /** Whether {@link apply} puts permanent state in place, which may be older than what there is. */
  get replacesPermanent(): boolean {
    return this.staged.permanent !== undefined;
  }

  /** Forgets what {@link accept} kept. */
  forget(): void {
    this.staged = {};
  }

  /**
   * Puts permanent state in place and gives the volatile state to go on from, if there is any. All of it becomes durable in one
   * transaction. With `deleteVolatile` the volatile state does not come a second time. What must not go back stays as it is
   * `now`.
   */
  async apply(deleteVolatile: boolean, now: Tpm): Promise<VolatileState | undefined> {
    const { volatile } = this.staged;
    const permanent = this.staged.permanent && (await this.keepForward(this.staged.permanent, now));
    const present = await this.records.load(permanent === undefined ? VOLATILE_KEY : '');
    const stored = volatile ?? present.find(([key]) => key === VOLATILE_KEY)?.[1];
    const changes =
      permanent === undefined
        ? new Map<string, Buffer | null>()
        : replaceRecords(
            present.map(([key]) => key),
            permanent,
          );
    const isThere = present.some(([key]) => key === VOLATILE_KEY);
    if (stored !== undefined && !deleteVolatile) changes.set(VOLATILE_KEY, Buffer.from(stored));
    else if (isThere) changes.set(VOLATILE_KEY, null);
    // What cannot be read is not kept either: the next INIT begins anew.
    const state = stored === undefined ? undefined : await this.readOrDelete(stored, isThere, now);
    if (changes.size > 0) await this.records.commit(changes);
    this.forget();
    return state;
  }

  private async readOrDelete(stored: Buffer, isThere: boolean, now: Tpm): Promise<VolatileState> {
    try {
      const state = await this.tryVolatile(Buffer.from(stored));
      this.requireNotOlder(state, now);
      return state;
    } catch (error) {
      this.forget();
      if (isThere) await this.records.commit(new Map([[VOLATILE_KEY, null]]));
      throw error;
    }
  }

  /** Records that may be older, with the counters of `now` where those are ahead. */
  private async keepForward(records: RecordSet, now: Tpm): Promise<RecordSet> {
    const { tpm, trial } = await this.tryOut(records);
    tpm.dictionaryAttack.keepForward(now.dictionaryAttack);
    tpm.nv.keepForward(countsOf(now));
    if (tpm.generation.value < now.generation.value) tpm.generation.advance(now.generation.value);
    if (tpm.durable.dirty) await tpm.durable.commit();
    return trial.all;
  }

  private seal(part: StatePart, state: Buffer): Buffer {
    const blob = sealState(this.owner, part, state);
    state.fill(0);
    return blob;
  }
}

/** What must not go back of a TPM: after an end without order, orderly counters may have been ahead. */
export function countsOf({ nv, power }: Tpm): NvCounts {
  return nv.counts(!power.powered && !power.orderly);
}
