// What has changed of the volatile state since it was last written, in a few microseconds if that is little.
import type { SectionChange } from '../../store/journal-record.js';
import type { Schema } from '../../tpm/schema.js';
import {
  encodeSection,
  type GrowingMember,
  isSame,
  type Mark,
  type Member,
  type Section,
  type SectionFamily,
  type SectionWriter,
  type StateModule,
} from './section.js';

/** What was written of a section: how it is told from a later one, or its bytes. */
type Known = { readonly mark: Mark } | { readonly bytes: Buffer };

/** What was written of a family; members by the rest of their names. */
interface KnownFamily {
  mark: Mark | undefined;
  readonly members: Map<string, Known>;
}

/** What was written of a family whose sections only grow; `lengths` is undefined if it has other names now. */
interface Grown {
  readonly of: unknown;
  readonly revision: number;
  readonly lengths: Map<string, number> | undefined;
}

/** Knows what was written last. */
export class SectionChanges implements SectionWriter {
  private readonly known = new Map<string, Known>();
  private readonly families = new Map<string, KnownFamily>();
  private readonly grown = new Map<string, Grown>();
  private changes: SectionChange[] = [];
  /** Bytes of the changes that nobody else holds. */
  private loose: Buffer[] = [];

  /** All that differs from what was written last, which is this from now on. The bytes are secret, and of use until {@link wipe}. */
  collect(modules: readonly StateModule[]): SectionChange[] {
    const changes: SectionChange[] = (this.changes = []);
    for (const module of modules) module.writeSections?.(this);
    return changes;
  }

  /** What {@link collect} gave was written. */
  wipe(): void {
    for (const bytes of this.loose) bytes.fill(0);
    this.loose = [];
    this.changes = [];
  }

  /** Nothing was written: the next {@link collect} gives all there is. */
  forget(): void {
    this.wipe();
    for (const sections of [this.known, ...[...this.families.values()].map(({ members }) => members)]) {
      for (const section of sections.values()) if ('bytes' in section) section.bytes.fill(0);
    }
    this.known.clear();
    this.families.clear();
    this.grown.clear();
  }

  /** What is written is the state of these modules, though other objects held it then. */
  adopt(modules: readonly StateModule[]): void {
    this.forget();
    this.collect(modules);
    this.wipe();
    for (const [prefix, { of, revision }] of this.grown) this.grown.set(prefix, { of, revision, lengths: undefined });
  }

  one<T>({ name, schema }: Section<T>, take: () => T, mark?: Mark): void {
    this.look(this.known, '', name, schema, { take }, mark);
  }

  none({ name }: Pick<Section<unknown>, 'name'>): void {
    if (this.known.delete(name)) this.changes.push({ kind: 'remove', key: name });
  }

  each<T>({ prefix, schema }: SectionFamily<T>, members: () => Iterable<Member<T>>, mark?: Mark): void {
    const family = this.family(prefix);
    if (mark !== undefined && isSame(mark, family.mark)) return;
    family.mark = mark;
    let count = 0;
    for (const member of members()) {
      count++;
      this.look(family.members, prefix, member.rest, schema, member, member.mark);
    }
    if (family.members.size > count) this.removeOthers(prefix, family.members, new Set(Array.from(members(), ({ rest }) => rest)));
  }

  growing({ prefix }: SectionFamily<Buffer>, members: () => Iterable<GrowingMember>, of: unknown, revision: number): void {
    const before = this.grown.get(prefix);
    const sameObject = before !== undefined && before.of === of;
    if (sameObject && before.revision === revision) return;
    const known = sameObject ? before.lengths : undefined;
    if (known === undefined && before !== undefined) this.changes.push({ kind: 'removeAll', key: prefix });
    const lengths = new Map<string, number>();
    for (const member of members()) {
      const { length } = member;
      const key = prefix + member.rest;
      lengths.set(key, length);
      const written = known?.get(key);
      if (written === undefined) this.set(key, Buffer.from(member.from(0)));
      else if (written < length) this.changes.push({ kind: 'append', key, bytes: member.from(written) });
    }
    for (const key of known?.keys() ?? []) if (!lengths.has(key)) this.changes.push({ kind: 'remove', key });
    this.grown.set(prefix, { of, revision, lengths });
  }

  /** Takes a section if it is another one than before. Its name is `prefix` and `rest`, by which it is known. */
  private look<T>(
    known: Map<string, Known>,
    prefix: string,
    rest: string,
    schema: Schema<T>,
    source: Pick<Member<T>, 'take'>,
    mark: Mark | undefined,
  ): void {
    const before = known.get(rest);
    if (mark !== undefined && before !== undefined && 'mark' in before && isSame(mark, before.mark)) return;
    const bytes = encodeSection(schema, source.take());
    const old = before !== undefined && 'bytes' in before ? before.bytes : undefined;
    if (mark === undefined && old?.equals(bytes) === true) {
      bytes.fill(0);
      return;
    }
    old?.fill(0);
    known.set(rest, mark === undefined ? { bytes } : { mark });
    const key = prefix + rest;
    if (mark === undefined) this.changes.push({ kind: 'set', key, bytes });
    else this.set(key, bytes);
  }

  private set(key: string, bytes: Buffer): void {
    this.loose.push(bytes);
    this.changes.push({ kind: 'set', key, bytes });
  }

  private family(prefix: string): KnownFamily {
    let family = this.families.get(prefix);
    if (family === undefined) {
      family = { mark: undefined, members: new Map() };
      this.families.set(prefix, family);
    }
    return family;
  }

  private removeOthers(prefix: string, known: Map<string, unknown>, present: ReadonlySet<string>): void {
    for (const rest of known.keys()) {
      if (present.has(rest)) continue;
      known.delete(rest);
      this.changes.push({ kind: 'remove', key: prefix + rest });
    }
  }
}
