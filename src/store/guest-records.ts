/** Changes that become durable together or not at all. A `null` value deletes the record. */
export type RecordChanges = ReadonlyMap<string, Buffer | null>;

/**
 * The durable records of one guest, as the vTPM sees them: clear values under printable keys such as `nv/01c00002`.
 * How they are encrypted, bound to the guest and written is the store's business.
 */
export interface GuestRecords {
  /** All records whose key begins with `prefix`, in key order. Rejects if one cannot be authenticated. */
  load(prefix: string): Promise<[key: string, value: Buffer][]>;
  /**
   * Applies all changes atomically; resolves when they survive power loss. With `erases` what was there before cannot be read any more, also by
   * who finds older bytes of the disk and knows the state key.
   */
  commit(changes: RecordChanges, erases?: boolean): Promise<void>;
}
