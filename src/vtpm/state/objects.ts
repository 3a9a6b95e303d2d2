// TPM 2.0 Library Part 1, 27 (object structure), 30 (context management) and 37 (persistent objects).
import type { PrivatePart } from '../../keys/engine.js';
import type { KeyManagement } from '../../keys/key-management.js';
import { HANDLE_RANGE, TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { struct, uint64 } from '../../tpm/schema.js';
import type { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import { Sequence } from '../sequences/sequence.js';
import type { Limits } from '../limits.js';
import { type Member, section, sectionFamily, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { TpmObject } from './object.js';
import { fromStored, storedObject, toStored } from './stored/stored-object.js';
import { fromStoredSequence, storedSequence, toStoredSequence } from './stored/stored-sequence.js';

const common = section('objects', struct({ contexts: uint64 }));
/** Loaded objects by their handles. */
const loadedObjects = sectionFamily('object/', storedObject);
/** Sequences by their handles. */
const loadedSequences = sectionFamily('sequence/', storedSequence);

/** What a transient handle stands for. */
export type LoadedObject = TpmObject | Sequence;

/** Whether all bits of `mask` are set in the object's attributes. */
export function hasAttribute(object: { readonly publicArea: TPMT_PUBLIC }, mask: number): boolean {
  return (object.publicArea.objectAttributes & mask) === mask;
}

const PARENT = TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt;

/** A storage key, under which objects can be created and loaded (Part 1, 23.4): a restricted decryption key, loaded with its private part. */
export function isParent(object: TpmObject): boolean {
  return canHaveChildren(object) && object.publicArea.type !== TPM_ALG.KEYEDHASH;
}

/** A key that others can be derived from (Part 1, 28): a restricted decryption key of type keyedhash. */
export function isDerivationParent(object: TpmObject): boolean {
  return canHaveChildren(object) && object.publicArea.type === TPM_ALG.KEYEDHASH;
}

function canHaveChildren(object: TpmObject): boolean {
  return hasAttribute(object, PARENT) && object.privatePart !== undefined && !object.external && object.publicArea.nameAlg !== TPM_ALG.NULL;
}

/** The private part of an object that is to be used. An authorized object has one; `TPM_RC_AUTH_UNAVAILABLE` otherwise. */
export function privatePartOf(object: TpmObject): PrivatePart {
  if (object.privatePart === undefined) throw new TpmError(TPM_RC.AUTH_UNAVAILABLE);
  return object.privatePart;
}

/** The transient objects and sequences of one vTPM. */
export class TransientObjects implements StateModule {
  private readonly slots: (LoadedObject | undefined)[] = [];
  private readonly limits: Limits;
  private readonly keys: KeyManagement;
  /** `sequence` of the newest saved context of an object or sequence. */
  contexts = 0n;

  constructor(limits: Limits, keys: KeyManagement) {
    this.limits = limits;
    this.keys = keys;
  }

  find(handle: number): LoadedObject | undefined {
    return this.slots[handle - HANDLE_RANGE.TRANSIENT.first];
  }

  /** Handles in use, ascending. */
  get handles(): number[] {
    return this.slots.flatMap((slot, i) => (slot === undefined ? [] : [HANDLE_RANGE.TRANSIENT.first + i]));
  }

  /** Slots that are free (TPM_PT_HR_TRANSIENT_AVAIL). */
  get available(): number {
    return Math.max(0, this.limits.loadedObjects - this.slots.filter((slot) => slot !== undefined).length);
  }

  /** `TPM_RC_OBJECT_MEMORY` if no slot is free. To be called before the costly part of a command. */
  requireSlot(): void {
    if (this.available <= 0) throw new TpmError(TPM_RC.OBJECT_MEMORY);
  }

  /** Gives the object the lowest free handle. `TPM_RC_OBJECT_MEMORY`. */
  add(object: LoadedObject): number {
    this.requireSlot();
    let index = 0;
    while (this.slots[index] !== undefined) index++;
    this.slots[index] = object;
    return HANDLE_RANGE.TRANSIENT.first + index;
  }

  /** Puts a changed object in place of the old one. */
  replace(handle: number, object: LoadedObject): void {
    this.slots[handle - HANDLE_RANGE.TRANSIENT.first] = object;
  }

  /** `sequence` of the next saved context of an object or sequence. */
  nextContext(): bigint {
    this.contexts++;
    return this.contexts;
  }

  /** Removes an object; false if there is none. */
  flush(handle: number): boolean {
    const object = this.find(handle);
    if (object === undefined) return false;
    dispose(object);
    this.slots[handle - HANDLE_RANGE.TRANSIENT.first] = undefined;
    return true;
  }

  writeSections(writer: SectionWriter): void {
    const { contexts } = this;
    writer.one(common, () => ({ contexts }), [contexts]);
    writer.each(loadedObjects, () =>
      this.members((found, rest) => (found.kind === 'object' ? { rest, mark: [found], take: () => toStored(found) } : undefined)),
    );
    writer.each(loadedSequences, () =>
      this.members((found, rest) =>
        found.kind === 'object' ? undefined : { rest, mark: [found, found.revision], take: () => toStoredSequence(found.save()) },
      ),
    );
  }

  async readSections(reader: SectionReader): Promise<void> {
    this.contexts = reader.one(common).contexts;
    for (const [handle, object] of reader.each(loadedObjects)) this.replace(Number(handle), fromStored(object, this.keys));
    for (const [handle, sequence] of reader.each(loadedSequences)) {
      this.replace(Number(handle), await Sequence.restore(fromStoredSequence(sequence)));
    }
  }

  private members<T>(of: (found: LoadedObject, handle: string) => Member<T> | undefined): Member<T>[] {
    return this.handles.flatMap((handle) => {
      const found = this.find(handle);
      const member = found && of(found, handle.toString());
      return member === undefined ? [] : [member];
    });
  }

  /** Removes the objects for which `condition` holds. */
  flushWhere(condition: (object: LoadedObject) => boolean): void {
    for (const handle of this.handles) {
      const object = this.find(handle);
      if (object !== undefined && condition(object)) this.flush(handle);
    }
  }
}

function dispose(object: LoadedObject): void {
  if (object.kind === 'object') object.privatePart?.dispose();
  else object.dispose();
  object.authValue.fill(0);
}

/** Whether a hierarchy's disablement or renewal takes the object away. */
export function belongsTo(object: LoadedObject, hierarchy: number): boolean {
  return object.kind === 'object' && object.hierarchy === hierarchy && hierarchy !== TPM_RH.NULL;
}
