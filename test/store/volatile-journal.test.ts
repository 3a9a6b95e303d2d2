import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { applyChanges, type SectionChange } from '../../src/store/journal-record.js';
import { JournalRefused, JournalUnwritable } from '../../src/store/state-journal.js';
import { VolatileJournal } from '../../src/store/volatile-journal.js';

const GUEST = '11111111-1111-4111-8111-111111111111';
const BOOT = Buffer.alloc(16, 1);
const set = (key: string, text: string): SectionChange => ({ kind: 'set', key, bytes: Buffer.from(text) });

describe('the journal of volatile state', () => {
  let directory: string;
  let path: string;
  let key: Buffer;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tpmux-journal-'));
    path = join(directory, 'volatile', 'guest.journal');
    key = randomBytes(32);
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const open = (changes: Partial<{ guestId: string; bootId: Buffer; key: Buffer }> = {}): VolatileJournal =>
    new VolatileJournal({ path, guestId: changes.guestId ?? GUEST, bootId: changes.bootId ?? BOOT }, changes.key ?? key);
  const sections = (journal = open()): Record<string, string> => {
    const kept = journal.read();
    assert.ok(kept);
    return Object.fromEntries([...applyChanges(kept.records)].map(([name, bytes]) => [name, bytes.toString()]));
  };
  /** A journal with three records, and its size after each. */
  const written = (): number[] => {
    const journal = open();
    journal.begin([set('a', 'one'), set('b', 'two')], true);
    const sizes = [journal.size];
    journal.append([set('a', 'three'), { kind: 'remove', key: 'b' }], false);
    sizes.push(journal.size);
    journal.append([set('log/1', 'x'), { kind: 'append', key: 'a', bytes: Buffer.from('+four') }], true);
    sizes.push(journal.size);
    journal.release();
    return sizes;
  };

  it('gives back what was set, what grew, and nothing that was removed', () => {
    written();
    assert.deepEqual(sections(), { a: 'three+four', 'log/1': 'x' });
    const journal = open();
    journal.begin([set('log/1', 'x'), set('log/2', 'y'), set('other', 'z')], true);
    journal.append([{ kind: 'removeAll', key: 'log/' }], false);
    assert.deepEqual(sections(journal), { other: 'z' });
    assert.deepEqual(sections(), { other: 'z' });
    journal.end();
    assert.equal(open().read(), undefined);
    assert.equal(existsSync(path), false);
  });

  it('says which records wait for a commit, by rising numbers that are never used twice', () => {
    const journal = open();
    journal.begin([set('a', 'one')], true);
    const { id } = journal;
    journal.append([set('a', 'two')], true);
    const taken = journal.lastNumber;
    journal.takeBack();
    journal.append([set('b', 'three')], true);
    assert.ok(journal.lastNumber > taken);
    const kept = open().read();
    assert.deepEqual(kept?.id, id);
    assert.deepEqual(
      kept.records.map(({ withCommit }) => withCommit),
      [false, false, true],
    );
    assert.deepEqual(sections(), { a: 'one', b: 'three' });
    journal.begin([set('a', 'short')], false);
    assert.deepEqual(open().read()?.id, id, 'the same journal, only shorter');
    journal.begin([set('a', 'new')], true);
    assert.notDeepEqual(open().read()?.id, id);
  });

  it('cut off anywhere in its last record is as before that record', () => {
    const [, before = 0, size = 0] = written();
    for (let at = size - 1; at >= before; at--) {
      truncateSync(path, at);
      assert.deepEqual(sections(), { a: 'three' });
    }
  });

  it('cut off before its first record is refused', () => {
    const [first = 0] = written();
    for (let at = first - 1; at >= 0; at--) {
      truncateSync(path, at);
      assert.throws(() => open().read(), JournalRefused);
    }
  });

  it('with any byte changed is refused', () => {
    written();
    const bytes = readFileSync(path);
    for (let at = 0; at < bytes.length; at++) {
      const edited = Buffer.from(bytes);
      edited[at] = (edited[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(path, edited);
      assert.throws(() => open().read(), JournalRefused, `byte ${at.toString()}`);
    }
  });

  it('with records exchanged, repeated or left out is refused', () => {
    const [first = 0, second = 0] = written();
    const bytes = readFileSync(path);
    const [begin, one, two] = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
    for (const parts of [
      [begin, two, one],
      [begin, two],
      [begin, one, one],
      [begin, one, two, one],
    ]) {
      writeFileSync(path, Buffer.concat(parts));
      assert.throws(() => open().read(), /damaged/);
    }
  });

  it('of another guest, another state key or a newer format is refused, with the reason', () => {
    written();
    assert.throws(() => open({ guestId: 'other' }).read(), new JournalRefused(`it belongs to guest "${GUEST}"`));
    assert.throws(() => open({ key: randomBytes(32) }).read(), /made under another state key/);
    const bytes = readFileSync(path);
    bytes.writeUInt16BE(2, 8);
    writeFileSync(path, bytes);
    assert.throws(() => open().read(), new JournalRefused('it has format version 2, this tpmux reads version 1'));
    writeFileSync(path, 'something else');
    assert.throws(() => open().read(), /no journal of tpmux/);
  });

  it('of an earlier boot of the host is none, but must be authentic', () => {
    const sizes = written();
    assert.equal(open({ bootId: Buffer.alloc(16, 2) }).read(), undefined);
    const bytes = readFileSync(path);
    bytes[(sizes[0] ?? 0) - 1]! ^= 1;
    writeFileSync(path, bytes);
    assert.throws(() => open({ bootId: Buffer.alloc(16, 2) }).read(), JournalRefused);
  });

  it('tells nothing of what is in it, and is for nobody else', () => {
    const journal = open();
    const secret = randomBytes(32).toString('hex');
    journal.begin([set('secret-name', secret)], true);
    journal.append([set('secret-name', secret)], false);
    const bytes = readFileSync(path);
    assert.ok(!bytes.includes(secret) && !bytes.includes('secret-name'));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(directory, 'volatile')).mode & 0o777, 0o700);
  });

  it('stays as it was where it cannot be replaced', () => {
    written();
    const journal = open();
    rmSync(join(directory, 'volatile'), { recursive: true });
    writeFileSync(join(directory, 'volatile'), 'in the way');
    assert.throws(() => {
      journal.begin([], true);
    }, JournalUnwritable);
    assert.throws(() => {
      journal.append([set('a', 'b')], false);
    }, JournalUnwritable);
  });

  it('holds any sections', () => {
    const change = fc.oneof(
      fc.record({
        kind: fc.constantFrom('set' as const, 'append' as const),
        key: fc.constantFrom('a', 'b/1', 'b/2'),
        bytes: fc.uint8Array(),
      }),
      fc.record({ kind: fc.constantFrom('remove' as const, 'removeAll' as const), key: fc.constantFrom('a', 'b/', 'b/1') }),
    );
    fc.assert(
      fc.property(fc.array(fc.array(change)), (records) => {
        const journal = open();
        journal.begin([], true);
        const expected = new Map<string, Buffer>();
        for (const record of records) {
          const changes = record.map((one): SectionChange => ('bytes' in one ? { ...one, bytes: Buffer.from(one.bytes) } : one));
          journal.append(changes, false);
          for (const one of changes) {
            if ('bytes' in one)
              expected.set(
                one.key,
                Buffer.concat([one.kind === 'append' ? (expected.get(one.key) ?? Buffer.alloc(0)) : Buffer.alloc(0), one.bytes]),
              );
            else
              for (const name of [...expected.keys()])
                if (name === one.key || (one.kind === 'removeAll' && name.startsWith(one.key))) expected.delete(name);
          }
        }
        journal.release();
        assert.deepEqual(applyChanges(open().read()?.records ?? []), expected);
      }),
    );
  });
});
