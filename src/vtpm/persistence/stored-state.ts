// State that was taken out of a vTPM, on its way back in: checked when it comes, put in place by the next INIT.
import type { GuestRecords } from '../../store/guest-records.js';
import { TpmError } from '../../tpm/response-code.js';
import { StateRefused, type StatePart } from '../guest-tpm.js';
import { decodeRecords, encodeRecords, replaceRecords, type RecordSet, TrialRecords, VolatileState } from './snapshot.js';
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

  /** Checks a blob and keeps what is in it for {@link apply}. Rejects with {@link StateRefused}; what was kept before stays then. */
  async accept(part: StatePart, blob: Buffer): Promise<void> {
    if (part === 'savestate') throw new StateRefused('a TPM 2.0 has no such state');
    const state = openState(this.owner, part, blob);
    if (part === 'volatile') {
      await this.tryVolatile(state);
      this.staged.volatile = state;
      return;
    }
    const records = decodeRecords(state, part);
    await this.tryOut(records);
    this.staged.permanent = records;
  }

  /** Whether a TPM can be made of these records. Rejects with {@link StateRefused} if not. */
  private async tryOut(records: RecordSet): Promise<Tpm> {
    const tpm = new Tpm({ ...this.parts, records: new TrialRecords(records) });
    try {
      await tpm.load();
      return tpm;
    } catch (error) {
      if (error instanceof TpmError) throw new StateRefused(`a record in it is damaged: ${error.message}`, { cause: error });
      throw error;
    }
  }

  /** The volatile state that `bytes` hold. Rejects with {@link StateRefused} if a TPM cannot go on from it. */
  private async tryVolatile(bytes: Buffer): Promise<VolatileState> {
    const state = new VolatileState(bytes);
    const tpm = await this.tryOut(new Map());
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
   * transaction. With `deleteVolatile` the volatile state does not come a second time.
   */
  async apply(deleteVolatile: boolean): Promise<VolatileState | undefined> {
    const { permanent, volatile } = this.staged;
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
    const state = stored === undefined ? undefined : await this.readOrDelete(stored, isThere);
    if (changes.size > 0) await this.records.commit(changes);
    this.forget();
    return state;
  }

  private async readOrDelete(stored: Buffer, isThere: boolean): Promise<VolatileState> {
    try {
      return await this.tryVolatile(Buffer.from(stored));
    } catch (error) {
      this.forget();
      if (isThere) await this.records.commit(new Map([[VOLATILE_KEY, null]]));
      throw error;
    }
  }

  private seal(part: StatePart, state: Buffer): Buffer {
    const blob = sealState(this.owner, part, state);
    state.fill(0);
    return blob;
  }
}
