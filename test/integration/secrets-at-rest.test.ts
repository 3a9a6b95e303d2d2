// After a workload with known secrets: none of them is in the daemon's files or its log, in clear.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_SU, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Running, startTpmux, tpmux, serving } from '../cli/command-line.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { type Execute, none, password, run } from '../support/frames.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { asParent, eccTemplate, hmacTemplate, sealTemplate } from '../support/templates.js';

const USER = TPMA_OBJECT.userWithAuth;
const parentTemplate: TPMT_PUBLIC = asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256));
const creation = { outsideInfo: none, creationPCR: [] };

/** Secrets by what they are: random, so that finding one is no accident. */
const secrets = {
  'owner authorization': randomBytes(20).fill(0x61, 19),
  'auth value of a key': randomBytes(20).fill(0x61, 19),
  'auth value of an NV index': randomBytes(20).fill(0x61, 19),
  'NV data': randomBytes(32),
  'sealed data': randomBytes(32),
  'HMAC key': randomBytes(32),
  'authorization of the lockout': randomBytes(20).fill(0x61, 19),
} as const;

/** Bits per byte. */
function entropy(bytes: Buffer): number {
  const counts = new Array<number>(256).fill(0);
  for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
  return counts.filter((n) => n > 0).reduce((sum, n) => sum - (n / bytes.length) * Math.log2(n / bytes.length), 0);
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}

describe('secrets at rest', () => {
  let chip: Swtpm;
  let directory: string;
  let daemon: Running;

  before(async () => {
    chip = await startSwtpm();
    directory = await mkdtemp(path.join(tmpdir(), 'tpmux-rest-'));
  });
  after(async () => {
    daemon.child.kill('SIGKILL');
    await daemon.result;
    await chip.stop();
    await rm(directory, { recursive: true });
  });

  /** Uses every secret, and makes all that can be durable durable. */
  async function workload(execute: Execute): Promise<void> {
    const owner = [password(secrets['owner authorization'])];
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
    await run(execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: secrets['owner authorization'] });
    await run(execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.LOCKOUT, newAuth: secrets['authorization of the lockout'] });
    const inSensitive = { userAuth: secrets['auth value of a key'], data: none };
    const parent = await run(
      execute,
      Commands.CreatePrimary,
      { primaryHandle: TPM_RH.OWNER, inSensitive, inPublic: parentTemplate, ...creation },
      owner,
    );
    const byParent = [password(secrets['auth value of a key'])];
    const templates: [TPMT_PUBLIC, Buffer][] = [
      [{ ...sealTemplate(), objectAttributes: USER }, secrets['sealed data']],
      [{ ...hmacTemplate(), objectAttributes: USER | TPMA_OBJECT.sign }, secrets['HMAC key']],
    ];
    let persistentHandle = 0x81000000;
    for (const [inPublic, data] of templates) {
      const request = {
        parentHandle: parent.objectHandle,
        inSensitive: { userAuth: secrets['auth value of a key'], data },
        inPublic,
        ...creation,
      };
      const made = await run(execute, Commands.Create, request, byParent);
      const loaded = await run(
        execute,
        Commands.Load,
        { parentHandle: parent.objectHandle, inPrivate: made.outPrivate, inPublic: made.outPublic },
        byParent,
      );
      await run(
        execute,
        Commands.EvictControl,
        { auth: TPM_RH.OWNER, objectHandle: loaded.objectHandle, persistentHandle: persistentHandle++ },
        owner,
      );
      await run(execute, Commands.FlushContext, { flushHandle: loaded.objectHandle });
    }
    const publicInfo = {
      nvIndex: 0x01500000,
      nameAlg: TPM_ALG.SHA256,
      attributes: TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE,
      authPolicy: none,
      dataSize: 32,
    } as const;
    await run(
      execute,
      Commands.NV_DefineSpace,
      { authHandle: TPM_RH.OWNER, auth: secrets['auth value of an NV index'], publicInfo },
      owner,
    );
    const on = { authHandle: publicInfo.nvIndex, nvIndex: publicInfo.nvIndex };
    await run(execute, Commands.NV_Write, { ...on, data: secrets['NV data'], offset: 0 }, [password(secrets['auth value of an NV index'])]);
    await run(execute, Commands.Shutdown, { shutdownType: TPM_SU.STATE });
  }

  it('are not in the files of the daemon, nor in its log', async function () {
    this.timeout(60_000);
    const runDir = path.join(directory, 'run');
    daemon = startTpmux([
      'serve',
      '--log-level',
      'debug',
      '--tcti',
      chip.tcti,
      '--state-dir',
      path.join(directory, 'state'),
      '--run-dir',
      runDir,
    ]);
    await serving(daemon);
    const created = await tpmux(['guest', 'create', 'alice', '--run-dir', runDir]);
    assert.equal(created.code, 0, created.err);
    const exchange = new Exchange({ path: path.join(runDir, 'guests', 'alice', 'tpm.sock') });
    await workload((frame) => exchange.send(frame, responseSize));
    exchange.close();
    const exported = await tpmux(['guest', 'export', 'alice', '--out', path.join(directory, 'alice.tpmux'), '--run-dir', runDir]);
    assert.equal(exported.code, 0, exported.err);
    const files = await filesBelow(directory);
    let size = 0;
    for (const file of files) {
      const content = await readFile(file);
      size += content.length;
      for (const [what, secret] of Object.entries(secrets)) {
        assert.equal(content.includes(secret), false, `${what} is in ${file}`);
        assert.equal(content.includes(secret.toString('hex')), false, `${what} is in ${file}, in hexadecimal`);
        assert.equal(content.includes(secret.toString('base64').slice(0, 24)), false, `${what} is in ${file}, in Base64`);
        assert.equal(daemon.err().includes(secret.toString('hex')), false, `${what} is in the log`);
      }
    }
    assert.ok(size > 4096, 'the state was looked at');
  });

  it('what is stored of a guest cannot be told from random bytes', async () => {
    daemon.child.kill('SIGKILL');
    await daemon.result;
    const store = new BetterSqlite(path.join(directory, 'state', 'store', 'store.db'));
    const values = store.prepare("SELECT value FROM record WHERE key GLOB 'guest/*/record/*'").pluck().all() as Buffer[];
    store.close();
    // Version and number of the commit come first.
    const sealed = Buffer.concat(values.map((value) => value.subarray(9)));
    assert.ok(sealed.length > 4000, `${sealed.length.toString()} bytes`);
    // Of this many random bytes, entropy by the byte is at least this, and a text of 10 printable characters is rare.
    assert.ok(entropy(sealed) > 7.9, `${entropy(sealed).toString()} bits`);
    const texts = sealed.toString('latin1').match(/[\x20-\x7e]{12,}/g) ?? [];
    assert.ok(texts.length <= 1, texts.join('\n'));
  });
});
