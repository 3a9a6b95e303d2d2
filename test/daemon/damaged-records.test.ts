// What is in the store and is not what was written last is refused with the way out, and never taken for something else.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { AUDIT_HEAD_RECORD } from '../../src/daemon/open-host.js';
import { storePath } from '../../src/config/paths.js';
import { EXIT, Failure } from '../../src/failure.js';
import { REVOCATIONS_RECORD } from '../../src/guests/properties/service.js';
import { checkWithoutDaemon } from '../../src/host/doctor.js';
import { HARDWARE_RECORD } from '../../src/host/hardware-record.js';
import { SECRET_RECORD } from '../../src/host/host-secret.js';
import { LEASE_RECORD } from '../../src/host/rollback/guard.js';
import { HEAD_KEY } from '../../src/store/clear-rows.js';
import { decodeMeta } from '../../src/store/guest-meta.js';
import { StoreError } from '../../src/store/store-error.js';
import { forgeRows, storedRows } from '../support/host-store.js';
import { RunningDaemon } from '../support/running-daemon.js';

describe('a record of the store that somebody changed', function () {
  this.timeout(120_000);
  let daemon: RunningDaemon;
  let directory: string;
  let good: Map<string, Buffer>;
  const ids: Record<string, string> = {};

  before(async () => {
    daemon = await RunningDaemon.create();
    directory = storePath(daemon.config.stateDir);
    await daemon.start();
    for (const name of ['alice', 'bob']) {
      const { status, text } = await daemon.ask('POST', '/v1/guests', { name });
      assert.equal(status, 201, text);
    }
    await daemon.stop();
    for (const [key, row] of await storedRows(directory)) {
      const id = /^guest\/([^/]+)\/meta$/.exec(key)?.[1];
      if (id !== undefined) ids[/"name":"(\w+)"/.exec(row.toString('latin1'))?.[1] ?? ''] = id;
    }
  });
  after(() => daemon.dispose());
  beforeEach(async () => {
    good = await storedRows(directory);
  });

  /** Puts everything back, and shows that the daemon starts on it. */
  afterEach(async () => {
    const now = await storedRows(directory);
    const gone = [...now.keys()].filter((key) => !good.has(key)).map((key) => [key, null] as const);
    await forgeRows(directory, [...gone, ...good]);
    await daemon.start();
    const { body } = await daemon.ask('GET', '/v1/guests');
    const states = body.guests.map(({ name, state }) => `${name} ${state}`);
    assert.deepEqual(states, ['alice running', 'bob running']);
    await daemon.stop();
  });

  const rowOf = (key: string): Buffer => good.get(key) ?? assert.fail(`no row ${key}`);
  const metaKey = (name: string): string => `guest/${ids[name] ?? ''}/meta`;

  /** A daemon that ran has written since: what was forged is put back as it was, and the rest counts as it is. */
  const putBack = async (...keys: string[]): Promise<void> => {
    await forgeRows(
      directory,
      keys.map((key) => [key, rowOf(key)]),
    );
    good = await storedRows(directory);
  };

  const isStoreError = (record: string, why: RegExp) => (error: unknown) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.deepEqual([error.record, error.exit], [record, EXIT.failed]);
    assert.match(error.message, why);
    assert.match(error.hint, /restore .* from a backup/);
    return true;
  };
  const isRollback =
    (why: RegExp) =>
    (error: unknown): boolean => {
      assert.ok(error instanceof Failure, String(error));
      assert.deepEqual([error.code, error.exit], ['rollback', EXIT.refused]);
      assert.match(error.why, why);
      assert.match(error.hint, /when-detected: allow/);
      return true;
    };

  for (const [name, misshapen] of [
    [HARDWARE_RECORD, '{"hostRootName": "xyz", "migrationAuthority": {}}'],
    [SECRET_RECORD, '{"public": "AAAA"}'],
  ] as const) {
    it(`is refused by name where it is needed for the secret: ${name}`, async () => {
      await forgeRows(directory, [[`host/${name}`, Buffer.from(misshapen.slice(0, -1))]]);
      await assert.rejects(daemon.start(), isStoreError(name, new RegExp(`host record '${name}' is damaged: .*JSON`)));
      await forgeRows(directory, [[`host/${name}`, Buffer.from(misshapen)]]);
      await assert.rejects(daemon.start(), isStoreError(name, new RegExp(`host record '${name}' is damaged: \\w+: `)));
    });
  }

  for (const name of [AUDIT_HEAD_RECORD, LEASE_RECORD]) {
    it(`is refused by name if it belongs to the host, and missed if it is removed: ${name}`, async () => {
      const row = Buffer.from(rowOf(`host/${name}`));
      row[row.length - 2] = (row.at(-2) ?? 0) ^ 1;
      for (const forged of [row, null]) {
        await forgeRows(directory, [[`host/${name}`, forged]]);
        await assert.rejects(daemon.start(), isRollback(new RegExp(`not as it was written last, .*host record '${name}'`)));
      }
    });
  }

  it('is not taken for a new store without its head', async () => {
    await forgeRows(directory, [[HEAD_KEY, null]]);
    await assert.rejects(daemon.start(), isRollback(/its head is missing/));
  });

  it('is noticed if it was not there before', async () => {
    await forgeRows(directory, [[`host/${REVOCATIONS_RECORD}`, Buffer.from('{}')]]);
    await assert.rejects(daemon.start(), isRollback(/host record 'revocations'/));
  });

  const running = async (): Promise<string[]> => (await daemon.ask('GET', '/v1/guests')).body.guests.map(({ name }) => name);

  for (const [what, forge] of [
    ['its policy edited', (meta: string) => meta.replace(/"policy":(null|"(?:[^"\\]|\\.)*")/, '"policy":"version: 1\\n"')],
    ['another name', (meta: string) => meta.replace('"name":"alice"', '"name":"carol"')],
    ['another port', (meta: string) => meta.replace('"listen":{}', '"listen":{"tcp":4321}')],
    ['no description', () => null],
  ] as const) {
    it(`keeps its guest from running, and no other: ${what}`, async () => {
      const before = rowOf(metaKey('alice')).toString('utf8');
      const meta = forge(before);
      assert.notEqual(meta, before);
      await forgeRows(directory, [[metaKey('alice'), meta === null ? null : Buffer.from(meta, 'utf8')]]);
      await daemon.start();
      assert.deepEqual(await running(), ['bob']);
      assert.match(daemon.log.join('\n'), /a guest is refused .*not those that were written last/);
      await daemon.stop();
      await putBack(metaKey('alice'));
    });
  }

  it('does not make a new TPM of a guest that has been used', async () => {
    const id = ids['alice'] ?? '';
    const records = [...good].filter(([key]) => key.startsWith(`guest/${id}/record/`) || key === `guest/${id}/head`);
    assert.ok(records.length > 0);
    await forgeRows(directory, [...records.map(([key]) => [key, null] as const), [`guest/${id}/unused`, Buffer.alloc(0)]]);
    await daemon.start();
    assert.deepEqual(await running(), ['bob']);
    await daemon.stop();
    await forgeRows(directory, [[`guest/${id}/unused`, null], ...records]);
    good = await storedRows(directory);
  });

  it('does not make one guest of another, nor one of a removed one', async () => {
    const rename = (row: Buffer, from: string, to: string): Buffer =>
      Buffer.from(row.toString('utf8').replace(`"name":"${from}"`, `"name":"${to}"`), 'utf8');
    await forgeRows(directory, [
      [metaKey('alice'), rename(rowOf(metaKey('alice')), 'alice', 'bob')],
      [metaKey('bob'), rename(rowOf(metaKey('bob')), 'bob', 'alice')],
    ]);
    await daemon.start();
    assert.deepEqual(await running(), []);
    await daemon.stop();
    await putBack(metaKey('alice'), metaKey('bob'));
    const other = randomUUID();
    const copied = [...good].flatMap(([key, row]) =>
      key.startsWith(`guest/${ids['alice'] ?? ''}/`) ? [[key.replace(ids['alice'] ?? '', other), row] as const] : [],
    );
    await forgeRows(directory, copied);
    await daemon.start();
    assert.deepEqual(await running(), ['alice', 'bob']);
    assert.match(daemon.log.join('\n'), new RegExp(`a guest is refused .*${other}`));
    await daemon.stop();
    await forgeRows(
      directory,
      copied.map(([key]) => [key, null] as const),
    );
    good = await storedRows(directory);
  });

  it('makes no guest with a name that leads out of its directory', () => {
    const id = randomUUID();
    const meta = rowOf(metaKey('alice'))
      .toString('utf8')
      .replace('"name":"alice"', '"name":".."')
      .replaceAll(ids['alice'] ?? '', id);
    assert.throws(() => decodeMeta(id, Buffer.from(meta, 'utf8')), /bad field name/);
  });

  it('is let pass where the operator says so, and noted', async () => {
    await forgeRows(directory, [[`host/${AUDIT_HEAD_RECORD}`, null]]);
    const config = { ...daemon.config };
    Object.assign(daemon.config, { whenRollback: 'allow' });
    try {
      await daemon.start();
      const { body } = await daemon.ask('GET', '/v1/audit');
      assert.match(JSON.stringify(body), /rollback-allowed/);
      await daemon.stop();
    } finally {
      Object.assign(daemon.config, config);
    }
    good = await storedRows(directory);
  });

  it('is told of by doctor', async () => {
    await forgeRows(directory, [[`host/${HARDWARE_RECORD}`, Buffer.from('[]')]]);
    const checks = await checkWithoutDaemon(daemon.config);
    const store = checks.find((check) => check.name === 'store');
    assert.equal(store?.result, 'fail');
    assert.match(store.detail, /host record 'hardware' is damaged/);
  });
});
