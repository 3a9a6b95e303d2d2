// TPM 2.0 Library Part 1, 30: object slots of the chip, and contexts of what does not fit.
import { ContextLoad, ContextSave, FlushContext, Load } from '../../tpm/commands/index.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { TPMS_CONTEXT, TPMT_PUBLIC } from '../../tpm/structures/index.js';
import type { SlotKeeper } from '../chip/chip.js';
import { ChipError } from '../chip/errors.js';

/** A key at a persistent handle: it needs no slot of ours. */
export interface PersistentKey {
  readonly handle: number;
  readonly name: Buffer;
}

/** A key that is loaded when it is needed. */
export interface LoadableKey {
  /** Tells keys apart: their parent's Name and their own. */
  readonly id: string;
  readonly name: Buffer;
  readonly parent: PersistentKey | LoadableKey;
  readonly publicArea: TPMT_PUBLIC;
  /** Contents of the `TPM2B_PRIVATE`. */
  readonly privateBlob: Buffer;
}

interface Slot {
  readonly key: LoadableKey;
  readonly handle: number;
  pins: number;
}

/** What the slots did, for metrics. */
export interface SlotCounters {
  hits: number;
  loads: number;
  contextLoads: number;
  contextSaves: number;
  evictions: number;
}

const DEFAULT_CONTEXTS = 4096;
/** A key and its parent. */
const LEAST_SLOTS = 2;

/**
 * Keeps keys in the chip as long as there is room. The least recently used one makes room for another; its context is saved
 * the first time, never again, since contexts of objects do not change. Using a key that is in a slot costs no command;
 * one whose context is saved FlushContext and ContextLoad; one that was never used before Load, and what its parent costs.
 *
 * Plain least-recently-used order is deliberate: to prefer victims whose context is saved would spare one command once, and keep
 * a key that was used once and never again in its slot forever.
 */
export class SlotCache {
  readonly counters: SlotCounters = { hits: 0, loads: 0, contextLoads: 0, contextSaves: 0, evictions: 0 };
  /** In order of use, the latest last. */
  private readonly slots = new Map<string, Slot>();
  private readonly contexts = new Map<string, TPMS_CONTEXT>();
  /** Whether the chip copies a persistent key into a slot while it is used. */
  private persistentTakesSlot = false;

  /** @param limit slots that the chip says it has; where there is less room, it tells, and one more key makes room */
  constructor(
    private limit = LEAST_SLOTS,
    private readonly maxContexts = DEFAULT_CONTEXTS,
  ) {}

  /** How many slots the chip says it has. */
  setLimit(limit: number): void {
    this.limit = Math.max(LEAST_SLOTS, limit);
  }

  /** The chip lost its handles; `reset` if it was reset, so that saved contexts are void too. */
  lost(reset: boolean): void {
    this.slots.clear();
    if (reset) this.contexts.clear();
  }

  /** Slots in use, and how many there are. */
  get occupancy(): { readonly used: number; readonly limit: number; readonly contexts: number } {
    return { used: this.slots.size, limit: this.limit, contexts: this.contexts.size };
  }

  /**
   * Runs `operate` with the handle of `key`, loaded and kept in its slot meanwhile. Part of a turn.
   * Rejects as {@link Chip.execute} and `operate` do; with {@link ChipRestarted} if the chip turns out not to have what we thought
   * was in its slots, because it was reset behind our back: the job then begins anew with empty slots.
   */
  async use<T>(chip: SlotKeeper, key: LoadableKey, operate: (handle: number) => Promise<T>): Promise<T> {
    const trusting = this.isPresent(key) || ('parent' in key.parent && this.isPresent(key.parent));
    const useOnce = async (): Promise<T> => {
      const slot = await this.pin(chip, key);
      try {
        return await operate(slot.handle);
      } finally {
        slot.pins--;
      }
    };
    return trusting ? await this.resynchronizing(chip, useOnce) : await useOnce();
  }

  /** Takes all keys that `mine` selects out of the chip. Part of a turn. */
  async discard(chip: SlotKeeper, mine: (key: LoadableKey) => boolean): Promise<void> {
    for (const slot of [...this.slots.values()].filter(({ key }) => mine(key))) {
      await this.resynchronizing(chip, () => chip.flush(slot.handle));
      this.slots.delete(slot.key.id);
    }
  }

  /** Forgets saved contexts whose key's identity begins with `prefix`. */
  forgetContexts(prefix: string): void {
    for (const id of this.contexts.keys()) if (id.startsWith(prefix)) this.contexts.delete(id);
  }

  private isPresent(key: LoadableKey): boolean {
    return this.slots.has(key.id);
  }

  private async pin(chip: SlotKeeper, key: LoadableKey): Promise<Slot> {
    const present = this.slots.get(key.id);
    if (present !== undefined) {
      this.slots.delete(key.id);
      this.slots.set(key.id, present);
      present.pins++;
      this.counters.hits++;
      return present;
    }
    const handle = (await this.loadContext(chip, key)) ?? (await this.load(chip, key));
    if ([...this.slots.values()].some((slot) => slot.handle === handle)) return await chip.resynchronize(ContextLoad.name);
    const slot = { key, handle, pins: 1 };
    this.slots.set(key.id, slot);
    return slot;
  }

  /** The handle, or undefined if there is no context or the chip no longer takes it. */
  private async loadContext(chip: SlotKeeper, key: LoadableKey): Promise<number | undefined> {
    const context = this.contexts.get(key.id);
    if (context === undefined) return undefined;
    await this.makeRoom(chip, 1);
    try {
      const { loadedHandle } = await chip.execute(ContextLoad, { context });
      this.counters.contextLoads++;
      this.contexts.delete(key.id);
      this.contexts.set(key.id, context);
      return loadedHandle;
    } catch (error) {
      if (!(error instanceof ChipError) || isMemory(error.code)) throw error;
      this.contexts.delete(key.id);
      return undefined;
    }
  }

  private async load(chip: SlotKeeper, key: LoadableKey): Promise<number> {
    const { parent } = key;
    if ('handle' in parent) {
      await this.makeRoom(chip, this.persistentTakesSlot ? 2 : 1);
      const before = this.slots.size;
      const handle = await this.loadUnder(chip, parent.handle, key);
      if (this.slots.size < before) this.persistentTakesSlot = true;
      return handle;
    }
    const slot = await this.pin(chip, parent);
    try {
      await this.makeRoom(chip, 1);
      return await this.loadUnder(chip, slot.handle, key);
    } finally {
      slot.pins--;
    }
  }

  private async loadUnder(chip: SlotKeeper, parentHandle: number, key: LoadableKey): Promise<number> {
    const request = { parentHandle, inPrivate: key.privateBlob, inPublic: key.publicArea };
    const { objectHandle } = await chip.execute(Load, request, { names: [key.parent.name] });
    this.counters.loads++;
    return objectHandle;
  }

  private async makeRoom(chip: SlotKeeper, slots: number): Promise<void> {
    while (this.slots.size + slots > this.limit && (await this.evict(chip)));
  }

  /** The chip has less room than we thought: frees one slot; if all others are somebody's who left them there, these. */
  async makeOneFree(chip: SlotKeeper): Promise<boolean> {
    return (await this.evict(chip)) || (await chip.resynchronize(ContextLoad.name));
  }

  private async evict(chip: SlotKeeper): Promise<boolean> {
    const victim = [...this.slots.values()].find(({ pins }) => pins === 0);
    if (victim === undefined) return false;
    await this.resynchronizing(chip, async () => {
      if (!this.contexts.has(victim.key.id)) await this.save(chip, victim);
      // Not for a guest that gave up: the victim stays where it is then.
      await chip.execute(FlushContext, { flushHandle: victim.handle });
    });
    this.slots.delete(victim.key.id);
    this.counters.evictions++;
    return true;
  }

  /** Runs `use`, which relies on what we think is in the slots; if it is not there, the chip is emptied and the job begins anew. */
  private async resynchronizing<T>(chip: SlotKeeper, use: () => Promise<T>): Promise<T> {
    try {
      return await use();
    } catch (error) {
      if (isLostObject(error)) return await chip.resynchronize(error.command);
      throw error;
    }
  }

  private async save(chip: SlotKeeper, { key, handle }: Slot): Promise<void> {
    const { context } = await chip.execute(ContextSave, { saveHandle: handle });
    this.counters.contextSaves++;
    this.contexts.set(key.id, { ...context, contextBlob: Buffer.from(context.contextBlob) });
    const oldest = this.contexts.keys().next();
    if (this.contexts.size > this.maxContexts && oldest.done !== true) this.contexts.delete(oldest.value);
  }
}

function isMemory(code: number): boolean {
  return code === TPM_RC.OBJECT_MEMORY || code === TPM_RC.OBJECT_HANDLES || code === TPM_RC.MEMORY || code === TPM_RC.RETRY;
}

/** Whether the chip does not have the object that a handle stood for, or has another one there. */
function isLostObject(error: unknown): error is ChipError {
  if (!(error instanceof ChipError)) return false;
  const isReference = error.code >= TPM_RC.REFERENCE_H0 && error.code < TPM_RC.REFERENCE_S0;
  return isReference || error.base === TPM_RC.HANDLE || error.base === TPM_RC.BAD_AUTH;
}
