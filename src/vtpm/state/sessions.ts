// TPM 2.0 Library Part 1, 19 (authorizations) and 30 (context management of sessions).
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { list, struct, uint32, uint64 } from '../../tpm/schema.js';
import type { Limits } from '../limits.js';
import { section, sectionFamily, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { PolicyState, Session } from './session.js';
import { fromStoredSession, storedSession, toStoredSession } from './stored/stored-session.js';

/** Saved sessions and what all have in common. `exclusiveAudit` is 0 if there is none. */
const table = section(
  'sessions',
  struct({
    saved: list(struct({ handle: uint32, contextId: uint64 }), 65536),
    contextCounter: uint64,
    exclusiveAudit: uint32,
  }),
);
/** Loaded sessions by their handles. */
const loadedSessions = sectionFamily('session/', storedSession);

/** A policy on which nothing has been asserted. */
export function freshPolicy(digestSize: number): PolicyState {
  return {
    digest: Buffer.alloc(digestSize),
    commandCode: 0,
    bound: undefined,
    pcrCounter: undefined,
    timeout: 0n,
    locality: 0,
    authValueNeeded: false,
    passwordNeeded: false,
    physicalPresence: false,
    nvWritten: undefined,
  };
}

/** Puts a policy back to its beginning, in place. */
export function resetPolicy(session: Session): void {
  Object.assign(session.policy, freshPolicy(session.policy.digest.length));
}

const INDEX_MASK = 0x00ffffff;
/** How far the oldest saved session may be behind the newest (TPM_PT_CONTEXT_GAP_MAX). */
export const CONTEXT_GAP_MAX = 0xffff;

/** Where the session of one handle index is. */
type Slot = { readonly session: Session } | { readonly handle: number; readonly contextId: bigint };

/**
 * The sessions of one vTPM. HMAC and policy sessions share their indices, so an index belongs to one session, loaded or saved.
 */
export class Sessions implements StateModule {
  private readonly slots: (Slot | undefined)[] = [];
  private readonly limits: Limits;
  /** How often a session came, went, or was saved or loaded. */
  private moves = 0;
  /** `sequence` of the next saved session context: what is below numbers the places of loaded sessions. */
  contextCounter: bigint;
  /** Handle of the exclusive audit session, if any (Part 1, 34.3). */
  exclusiveAudit: number | undefined;

  constructor(limits: Limits) {
    this.limits = limits;
    this.contextCounter = this.firstContext;
  }

  /** The loaded session with this handle, type included; undefined otherwise. */
  find(handle: number): Session | undefined {
    const slot = this.slots[handle & INDEX_MASK];
    return slot !== undefined && 'session' in slot && slot.session.handle === handle ? slot.session : undefined;
  }

  /** Whether a session is loaded at the handle's index, but of the other type. */
  isOtherType(handle: number): boolean {
    const slot = this.slots[handle & INDEX_MASK];
    return slot !== undefined && 'session' in slot && slot.session.handle !== handle;
  }

  /** Handles of loaded sessions, ascending by index. */
  get loaded(): number[] {
    return this.slots.flatMap((slot) => (slot !== undefined && 'session' in slot ? [slot.session.handle] : []));
  }

  /** Handles of saved sessions, ascending by index. */
  get saved(): number[] {
    return this.slots.flatMap((slot) => (slot !== undefined && 'contextId' in slot ? [slot.handle] : []));
  }

  /**
   * Adds a session. `TPM_RC_SESSION_MEMORY`, `TPM_RC_SESSION_HANDLES`; `TPM_RC_CONTEXT_GAP` if it would take the place that the oldest
   * saved session needs to be renewed.
   */
  add(make: (index: number) => Session): Session {
    this.requireMemory();
    if (this.gapReached && this.isLastPlace) throw new TpmError(TPM_RC.CONTEXT_GAP);
    let index = 0;
    while (this.slots[index] !== undefined) index++;
    if (index >= this.limits.activeSessions) throw new TpmError(TPM_RC.SESSION_HANDLES);
    const session = make(index);
    this.put(index, { session });
    return session;
  }

  /**
   * Ends a session, loaded or saved. False if there is none. Only the index in the handle counts: GetCapability reports saved sessions of
   * both types with one type of handle.
   */
  flush(handle: number): boolean {
    const index = handle & INDEX_MASK;
    const slot = this.slots[index];
    if (slot === undefined) return false;
    if ('session' in slot) slot.session.sessionKey.fill(0);
    if (this.exclusiveAudit === ('session' in slot ? slot.session.handle : slot.handle)) this.exclusiveAudit = undefined;
    this.put(index, undefined);
    return true;
  }

  /** Takes a loaded session out of memory and gives the sequence number of its context. `TPM_RC_CONTEXT_GAP`. */
  markSaved(session: Session): bigint {
    if (this.gapReached) throw new TpmError(TPM_RC.CONTEXT_GAP);
    const contextId = this.contextCounter++;
    this.put(session.handle & INDEX_MASK, { handle: session.handle, contextId });
    return contextId;
  }

  /** Whether `contextId` is the newest context of the saved session `handle`. */
  isSaved(handle: number, contextId: bigint): boolean {
    const slot = this.slots[handle & INDEX_MASK];
    return slot !== undefined && 'contextId' in slot && slot.handle === handle && slot.contextId === contextId;
  }

  /** Puts a saved session back. `TPM_RC_SESSION_MEMORY`; `TPM_RC_CONTEXT_GAP` if only the oldest one may be. */
  reload(session: Session): void {
    this.requireMemory();
    const isOldest = this.isSaved(session.handle, this.oldestContext ?? 0n);
    if (this.gapReached && this.isLastPlace && !isOldest) throw new TpmError(TPM_RC.CONTEXT_GAP);
    this.put(session.handle & INDEX_MASK, { session });
  }

  /** TPM reset: all sessions are gone, saved ones too. */
  clear(): void {
    this.flushLoaded();
    this.slots.length = 0;
    this.moves++;
    this.contextCounter = this.firstContext;
  }

  /** TPM restart and resume: loaded sessions are gone. */
  flushLoaded(): void {
    for (const handle of this.loaded) this.flush(handle);
    this.exclusiveAudit = undefined;
  }

  /** Saved sessions, for Shutdown(STATE). */
  saveTable(): { handle: number; contextId: bigint }[] {
    return this.slots.flatMap((slot) =>
      slot !== undefined && 'contextId' in slot ? [{ handle: slot.handle, contextId: slot.contextId }] : [],
    );
  }

  /** Puts back what {@link saveTable} gave. */
  restoreTable(saved: readonly { handle: number; contextId: bigint }[], contextCounter: bigint): void {
    this.clear();
    for (const { handle, contextId } of saved) this.put(handle & INDEX_MASK, { handle, contextId });
    this.contextCounter = contextCounter;
  }

  writeSections(writer: SectionWriter): void {
    const { contextCounter, exclusiveAudit } = this;
    writer.one(table, () => ({ saved: this.saveTable(), contextCounter, exclusiveAudit: exclusiveAudit ?? 0 }), [
      contextCounter,
      exclusiveAudit,
      this.moves,
    ]);
    writer.each(loadedSessions, () =>
      this.slots.flatMap((slot) =>
        slot !== undefined && 'session' in slot
          ? [{ rest: slot.session.handle.toString(), take: () => toStoredSession(slot.session) }]
          : [],
      ),
    );
  }

  readSections(reader: SectionReader): void {
    const { saved, contextCounter, exclusiveAudit } = reader.one(table);
    this.restoreTable(saved, contextCounter);
    for (const [, stored] of reader.each(loadedSessions)) this.put(stored.handle & INDEX_MASK, { session: fromStoredSession(stored) });
    this.exclusiveAudit = exclusiveAudit === 0 ? undefined : exclusiveAudit;
  }

  private put(index: number, slot: Slot | undefined): void {
    this.slots[index] = slot;
    this.moves++;
  }

  private get firstContext(): bigint {
    return BigInt(this.limits.loadedSessions) + 1n;
  }

  /** Sequence number of the oldest saved session; undefined if there is none. */
  private get oldestContext(): bigint | undefined {
    return this.saveTable().reduce<bigint | undefined>(
      (oldest, { contextId }) => (oldest === undefined || contextId < oldest ? contextId : oldest),
      undefined,
    );
  }

  /** No session can be saved until the oldest saved one is loaded or flushed. */
  private get gapReached(): boolean {
    const oldest = this.oldestContext;
    return oldest !== undefined && this.contextCounter - oldest > BigInt(CONTEXT_GAP_MAX);
  }

  private get isLastPlace(): boolean {
    return this.loaded.length === this.limits.loadedSessions - 1;
  }

  private requireMemory(): void {
    if (this.loaded.length >= this.limits.loadedSessions) throw new TpmError(TPM_RC.SESSION_MEMORY);
  }
}
