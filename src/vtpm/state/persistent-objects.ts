// TPM 2.0 Library Part 1, 37.3: persistent objects.
import type { KeyManagement } from '../../keys/key-management.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { Limits } from '../limits.js';
import type { DurableState } from './durable.js';
import type { TpmObject } from './object.js';
import { fromStored, storedObject, toStored } from './stored/stored-object.js';

const PREFIX = 'persistent/';
const keyOf = (handle: number): string => PREFIX + handle.toString(16).padStart(8, '0');

/** The persistent objects of one vTPM, by handle. They stay in memory: using one costs no hardware command by itself. */
export class PersistentObjects {
  private readonly objects = new Map<number, TpmObject>();
  private readonly keys: KeyManagement;
  private readonly limits: Limits;
  private readonly durable: DurableState;

  constructor(durable: DurableState, keys: KeyManagement, limits: Limits) {
    this.durable = durable;
    this.keys = keys;
    this.limits = limits;
  }

  async load(): Promise<void> {
    this.objects.clear();
    for (const [handle, stored] of await this.durable.loadAll(PREFIX, storedObject)) {
      this.objects.set(parseInt(handle, 16), fromStored(stored, this.keys));
    }
  }

  find(handle: number): TpmObject | undefined {
    return this.objects.get(handle);
  }

  /** Handles in use, ascending. */
  get handles(): number[] {
    return [...this.objects.keys()].sort((a, b) => a - b);
  }

  /** How many more there may be (TPM_PT_HR_PERSISTENT_AVAIL). */
  get available(): number {
    return Math.max(0, this.limits.persistentObjects - this.objects.size);
  }

  /** Makes a copy of `object` persistent; the caller has checked that the handle is free. `TPM_RC_NV_SPACE`. */
  add(handle: number, object: TpmObject): void {
    if (this.available <= 0) throw new TpmError(TPM_RC.NV_SPACE);
    const stored = toStored(object);
    this.durable.put(keyOf(handle), storedObject, stored);
    this.objects.set(handle, fromStored(stored, this.keys));
  }

  remove(handle: number): void {
    const object = this.objects.get(handle);
    if (object === undefined) return;
    object.privatePart?.dispose();
    object.authValue.fill(0);
    this.objects.delete(handle);
    this.durable.delete(keyOf(handle));
  }

  /** Removes the objects of a hierarchy. */
  removeHierarchy(hierarchy: number): void {
    for (const [handle, object] of [...this.objects]) if (object.hierarchy === hierarchy) this.remove(handle);
  }
}
