import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AuditAnchor, type AuditHead, AuditLog, readAudit } from '../../src/host/audit-log.js';

describe('the audit log', () => {
  let directory: string;
  let path: string;
  let head: AuditHead | undefined;
  const anchor: AuditAnchor = {
    load: () => head,
    save: (next) => {
      head = next;
      return Promise.resolve();
    },
  };
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-audit-'));
    path = join(directory, 'audit.log');
    head = undefined;
    const log = await AuditLog.open(path, anchor);
    for (const guest of ['a', 'b', 'c']) await log.note({ event: 'guest-created', guest });
  });
  afterEach(() => rm(directory, { recursive: true }));

  const problems = async (): Promise<readonly string[]> => (await (await AuditLog.open(path, anchor)).read()).problems;
  const edit = async (change: (lines: string[]) => void): Promise<void> => {
    const lines = (await readFile(path, 'utf8')).split('\n');
    change(lines);
    await writeFile(path, lines.join('\n'));
  };

  it('keeps what was noted, over restarts', async () => {
    await (await AuditLog.open(path, anchor)).note({ event: 'guest-removed', guest: 'a', detail: 'x' });
    const { entries, problems: found } = await readAudit(path);
    assert.deepEqual(found, []);
    assert.deepEqual(
      entries.map(({ number, event, guest }) => [number, event, guest]),
      [
        [1, 'log-begun', undefined],
        [2, 'guest-created', 'a'],
        [3, 'guest-created', 'b'],
        [4, 'guest-created', 'c'],
        [5, 'guest-removed', 'a'],
      ],
    );
  });

  it('shows that an entry was changed, taken out, put elsewhere, or taken off the end', async () => {
    const original = await readFile(path, 'utf8');
    const damages: ((lines: string[]) => void)[] = [
      (lines) => (lines[1] = lines[1]!.replace('"a"', '"x"')),
      (lines) => lines.splice(1, 1),
      (lines) => lines.splice(1, 0, lines.splice(2, 1)[0]!),
      (lines) => lines.splice(3, 1),
      (lines) => (lines[3] = lines[3]!.replace('"c"', '"x"')),
      (lines) => (lines[2] = 'nothing'),
      (lines) => lines.splice(0, 4),
    ];
    const lastHead = head;
    for (const [i, damage] of damages.entries()) {
      await writeFile(path, original);
      head = lastHead;
      await edit(damage);
      const damaged = await readFile(path, 'utf8');
      // What is damaged stays as it is; the log goes on behind it.
      await AuditLog.open(path, anchor);
      const text = await readFile(path, 'utf8');
      assert.ok(text.startsWith(damaged), `damage ${i.toString()}: nothing is overwritten`);
      assert.match(text, /"event":"log-repaired"/, `damage ${i.toString()} is noted`);
    }
  });

  it('takes off a line that a crash cut short', async () => {
    await appendFile(path, '{"version":1,"num');
    assert.deepEqual(await problems(), []);
    await (await AuditLog.open(path, anchor)).note({ event: 'guest-removed', guest: 'b' });
    assert.deepEqual(await problems(), []);
    assert.equal(head?.entries, 5);
  });

  it('accepts a log that is ahead of its anchor by what was written before a crash', async () => {
    const before = head;
    await (await AuditLog.open(path, anchor)).note({ event: 'guest-removed', guest: 'b' });
    head = before;
    assert.deepEqual(await problems(), []);
  });
});
