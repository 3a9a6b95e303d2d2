import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_SU, TPMA_NV, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { readBackup, recoverStateKey } from '../../../src/guests/backups/document.js';
import { runCommandLine, createProgram } from '../../../src/cli/program.js';
import { Exchange, responseSize } from '../../support/exchange.js';
import { type Execute, none, run } from '../../support/frames.js';
import { eccTemplate } from '../../support/templates.js';
import { type Answer, RunningDaemon } from '../../support/running-daemon.js';

const INDEX = 0x01500000;
const SECRET = Buffer.from('this is what the guest has stored');
const publicInfo = {
  nvIndex: INDEX,
  nameAlg: TPM_ALG.SHA256,
  attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
  authPolicy: none,
  dataSize: SECRET.length,
} as const;
const signing = {
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes:
    TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
};
const recovery = generateKeyPairSync('x25519', {
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});

describe('backups of guests', function () {
  this.timeout(120_000);
  let daemon: RunningDaemon;
  let other: RunningDaemon;
  let files: string;
  before(async () => {
    files = await mkdtemp(join(tmpdir(), 'tpmux-backups-'));
    daemon = await RunningDaemon.create();
    other = await RunningDaemon.create();
    await daemon.start();
    await other.start();
  });
  after(async () => {
    await daemon.dispose();
    await other.dispose();
    await rm(files, { recursive: true });
  });

  const onGuest = async <T>(of: RunningDaemon, name: string, use: (execute: Execute) => Promise<T>): Promise<T> => {
    const exchange = new Exchange({ path: join(of.config.runDir, 'guests', name, 'tpm.sock') });
    const execute: Execute = (frame) => exchange.send(frame, responseSize);
    try {
      await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
      return await use(execute);
    } finally {
      exchange.close();
    }
  };
  const readSecret = async (execute: Execute): Promise<Buffer> =>
    (await run(execute, Commands.NV_Read, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, size: SECRET.length, offset: 0 })).data;
  const primaryName = async (execute: Execute): Promise<string> => {
    const inSensitive = { userAuth: none, data: none };
    const made = await run(execute, Commands.CreatePrimary, {
      primaryHandle: TPM_RH.OWNER,
      inSensitive,
      inPublic: signing,
      outsideInfo: none,
      creationPCR: [],
    });
    return made.name.toString('hex');
  };
  /** A guest with something in it; gives the name of its key. */
  const prepare = async (name: string, recoveryKey?: string): Promise<string> => {
    const created = await daemon.ask('POST', '/v1/guests', { name, recoveryKey });
    assert.equal(created.status, 201, created.text);
    return onGuest(daemon, name, async (execute) => {
      await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
      await run(execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex: INDEX, data: SECRET, offset: 0 });
      return primaryName(execute);
    });
  };
  const exported = async (name: string): Promise<string> => {
    const answer = await daemon.ask('POST', `/v1/guests/${name}/export`, {});
    assert.equal(answer.status, 200, answer.text);
    return (answer.body as unknown as { backup: string }).backup;
  };
  const imports = (to: RunningDaemon, body: object): Promise<Answer> => to.ask('POST', '/v1/import', body);
  const cli = (...args: string[]): Promise<number> =>
    runCommandLine(createProgram('0'), ['node', 'tpmux', ...args, '--run-dir', daemon.config.runDir]);
  /** Stops the daemon, changes its database, and starts it again. */
  const tamper = async (change: (database: BetterSqlite.Database) => void): Promise<void> => {
    await daemon.stop();
    const database = new BetterSqlite(join(daemon.config.stateDir, 'store', 'store.db'));
    change(database);
    database.close();
    await daemon.start();
  };
  const idOf = async (name: string): Promise<string> => (await daemon.ask('GET', `/v1/guests/${name}`)).body.id;

  it('bring everything back with the TPM that they were made with', async () => {
    const key = await prepare('whole');
    const backup = await exported('whole');
    assert.equal(backup.includes(SECRET.toString('base64').slice(0, 20)), false);
    await onGuest(daemon, 'whole', async (execute) => {
      await run(execute, Commands.Clear, { authHandle: TPM_RH.LOCKOUT });
    }).catch(() => undefined);
    const refused = await imports(daemon, { backup });
    assert.equal(refused.body.error.code, 'guest_exists');
    assert.equal((await imports(daemon, { backup, replace: true })).body.error.code, 'guest_running');
    await daemon.ask('POST', '/v1/guests/whole/stop');
    const answer = await imports(daemon, { backup, replace: true });
    assert.equal(answer.status, 201, answer.text);
    await daemon.ask('POST', '/v1/guests/whole/start');
    await onGuest(daemon, 'whole', async (execute) => {
      assert.deepEqual(await readSecret(execute), SECRET);
      assert.equal(await primaryName(execute), key);
    });
    await daemon.ask('DELETE', '/v1/guests/whole');
    assert.equal((await imports(daemon, { backup })).status, 201, 'a guest that was removed comes back');
    const started = await daemon.ask('POST', '/v1/guests/whole/start');
    assert.equal(started.status, 200, started.text);
  });

  it('mean nothing to another TPM, and nothing when they were changed', async () => {
    await prepare('bound');
    const backup = await exported('bound');
    const elsewhere = await imports(other, { backup });
    assert.ok(elsewhere.status >= 400);
    assert.match(elsewhere.text, /not made by this TPM/);
    await daemon.ask('DELETE', '/v1/guests/bound');
    const changed = JSON.parse(backup) as Record<string, string>;
    const data = Buffer.from(changed['data']!, 'base64');
    data[100] = data[100]! ^ 1;
    for (const edit of [{ data: data.toString('base64') }, { exported: '2020-01-01T00:00:00.000Z' }, { name: 'another' }]) {
      const answer = await imports(daemon, { backup: JSON.stringify({ ...changed, ...edit }) });
      assert.match(answer.body.error.why, /not authentic/);
    }
    assert.match(
      (await imports(daemon, { backup: JSON.stringify({ ...changed, version: 2 }) })).text,
      /has format 2, .*use the newer tpmux/,
    );
    assert.match((await imports(daemon, { backup: 'rubbish' })).text, /not a backup/);
  });

  it('bring NV and hierarchies back in another TPM with the recovery key, but not the keys', async () => {
    const key = await prepare('moved', recovery.publicKey);
    const backup = await exported('moved');
    const { stateKey, recoveryKey } = await recoverStateKey(readBackup(backup), recovery.privateKey);
    const recovered = { stateKey: stateKey.toString('base64'), recoveryKey: recoveryKey.toString('base64') };
    const answer = await imports(other, { backup, recovered });
    assert.equal(answer.status, 201, answer.text);
    assert.match(answer.text, /"lost":\["primary\//);
    const started = await other.ask('POST', '/v1/guests/moved/start');
    assert.equal(started.status, 200, started.text);
    await onGuest(other, 'moved', async (execute) => {
      assert.deepEqual(await readSecret(execute), SECRET);
      assert.notEqual(await primaryName(execute), key);
    });
    // The recovery key opens its next backup as well.
    const next = (await other.ask('POST', '/v1/guests/moved/export', {})).body as unknown as { backup: string };
    assert.equal((await recoverStateKey(readBackup(next.backup), recovery.privateKey)).stateKey.length, 32);
    const wrong = generateKeyPairSync('x25519', { privateKeyEncoding: { type: 'pkcs8', format: 'pem' } }).privateKey;
    await assert.rejects(recoverStateKey(readBackup(backup), wrong as unknown as string), /not the key that this was wrapped for/);
  });

  it('refuse a private key as recovery key, and a guest without one', async () => {
    const refused = await daemon.ask('POST', '/v1/guests', { name: 'x', recoveryKey: recovery.privateKey });
    assert.match(refused.body.error.why, /it is a private key/);
    await prepare('plain');
    const backup = readBackup(await exported('plain'));
    await assert.rejects(recoverStateKey(backup, recovery.privateKey), /none was asked for/);
  });
  it('work from the command line', async () => {
    await prepare('shell');
    const file = join(files, 'shell.tpmux');
    assert.equal(await cli('guest', 'export', 'shell', '--out', file), 0);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal(await cli('guest', 'export', 'shell', '--out', file), 2, 'nothing is overwritten');
    assert.equal(await cli('guest', 'remove', 'shell', '--yes'), 0);
    assert.equal(await cli('guest', 'import', '--in', file), 0);
    assert.equal(await cli('guest', 'start', 'shell'), 0);
    assert.equal(await cli('guest', 'repair', 'shell'), 1, 'it runs');
    assert.equal(await cli('audit', 'verify'), 0);
    assert.equal(await cli('audit', 'list', '--guest', 'shell'), 0);
    assert.equal(await cli('audit', 'verify', '--file', join(daemon.config.stateDir, 'audit.log')), 0);
    assert.equal(await cli('audit', 'verify', '--head', '0'.repeat(63) + '1'), 1);
  });

  it('repair keeps what is good of a damaged guest, after it was refused', async () => {
    await prepare('broken');
    await prepare('sound');
    const id = await idOf('broken');
    await tamper((database) => {
      database.prepare('UPDATE record SET value = substr(value, 1, 30) WHERE key = ?').run(`guest/${id}/record/clock`);
    });
    const { body } = await daemon.ask('GET', '/v1/guests/broken');
    assert.equal(body.state, 'failed');
    assert.match(body.reason ?? '', /record 'clock' .*guest import.*guest repair/);
    assert.equal((await daemon.ask('GET', '/v1/guests/sound')).body.state, 'running', 'the others run');
    const shown = await daemon.ask('POST', '/v1/guests/broken/repair', { apply: false });
    assert.match(shown.text, /"lost":\[\{"record":"clock".*"applied":false/);
    assert.equal((await daemon.ask('POST', '/v1/guests/broken/start')).status, 500, 'showing changes nothing');
    const repaired = await daemon.ask('POST', '/v1/guests/broken/repair', { apply: true });
    assert.equal(repaired.status, 200, repaired.text);
    const started = await daemon.ask('POST', '/v1/guests/broken/start');
    assert.equal(started.status, 200, started.text);
    await onGuest(daemon, 'broken', async (execute) => {
      assert.deepEqual(await readSecret(execute), SECRET);
    });
    assert.equal((await readdir(join(daemon.config.stateDir, 'damaged'))).length, 1);
  });

  it('repair does not make another TPM of a guest', async () => {
    await prepare('gone');
    const id = await idOf('gone');
    await tamper((database) => {
      database.prepare('DELETE FROM record WHERE key = ?').run(`guest/${id}/record/hierarchies`);
    });
    const refused = await daemon.ask('POST', '/v1/guests/gone/repair', { apply: true });
    assert.match(refused.text, /would be another TPM/);
  });

  it('a guest that is another one under the same name is refused: key blobs and records of A in place of B', async () => {
    await prepare('first');
    await prepare('second');
    const [a, b] = [await idOf('first'), await idOf('second')];
    await tamper((database) => {
      database.prepare('DELETE FROM record WHERE key GLOB ?').run(`guest/${b}/record/*`);
      const rows = database.prepare('SELECT key, value FROM record WHERE key GLOB ?').all(`guest/${a}/*`) as {
        key: string;
        value: Buffer;
      }[];
      for (const { key, value } of rows) {
        if (!key.endsWith('/meta')) database.prepare('INSERT OR REPLACE INTO record VALUES (?, ?)').run(key.replace(a, b), value);
      }
    });
    assert.equal((await daemon.ask('GET', '/v1/guests/first')).body.state, 'running');
    assert.equal((await daemon.ask('GET', '/v1/guests/second')).status, 404);
    assert.match(daemon.log.join('\n'), new RegExp(`a guest is refused .*${b}.*not those that were written last`));
  });

  it('a store that another TPM made is refused as a whole, and left as it is', async () => {
    const third = await RunningDaemon.create();
    const store = join(third.config.stateDir, 'store');
    await daemon.stop();
    await cp(join(daemon.config.stateDir, 'store'), store, { recursive: true });
    await daemon.start();
    const guestRows = (): unknown[] => {
      const database = new BetterSqlite(join(store, 'store.db'));
      const rows = database.prepare("SELECT * FROM record WHERE key GLOB 'guest/*' OR key = 'host/hardware'").all();
      database.close();
      return rows;
    };
    const before = guestRows();
    await assert.rejects(third.start(), /the TPM was cleared, or it is another TPM \(put the right state directory and TPM together/);
    assert.deepEqual(guestRows(), before);
    await third.dispose();
  });

  it('everything is in the audit log', async () => {
    const text = await readFile(join(daemon.config.stateDir, 'audit.log'), 'utf8');
    for (const event of ['guest-created', 'guest-removed', 'guest-exported', 'guest-imported', 'guest-refused', 'guest-repaired']) {
      assert.ok(text.includes(`"event":"${event}"`), event);
    }
    await writeFile(join(files, 'copy.log'), text.replace('guest-repaired', 'guest-repairee'));
    assert.equal(await cli('audit', 'verify', '--file', join(files, 'copy.log')), 1);
  });
});
