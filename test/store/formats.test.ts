// Every format that was ever written can be read.
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBackup, readBackup } from '../../src/guests/backups/document.js';
import { readAudit } from '../../src/host/audit-log.js';
import { openRecords } from '../../src/store/guest-copy.js';
import type { HostStore } from '../../src/store/host-store.js';
import { openHostStore } from '../support/host-store.js';
import { TPM_RH, TPM_SU } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { password, run } from '../support/frames.js';
import { openTestTpm, softwareKeys } from '../support/vtpm.js';
import { EXAMPLE } from './formats/example.js';
import { checkGuest, HOST_GUEST, HOST_SETTINGS } from './formats/example-host.js';
import { checkVolatile } from './formats/example-volatile.js';

const FORMATS = fileURLToPath(new URL('./formats/', import.meta.url));

describe('stored formats', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-formats-'));
  });
  afterEach(() => rm(directory, { recursive: true }));

  /** Uses `store` with each format, as a copy. */
  const withEach = async (use: (store: HostStore, example: string) => Promise<void>): Promise<void> => {
    const versions = (await readdir(FORMATS, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
    assert.ok(versions.includes('v1'));
    for (const version of versions) {
      const copy = join(directory, version);
      await mkdir(copy);
      await cp(join(FORMATS, version, 'store.db'), join(copy, 'store.db'));
      const store = await openHostStore(copy);
      try {
        await use(store, join(FORMATS, version));
      } finally {
        await store.close();
      }
    }
  };

  it('a store gives a TPM with all that it had', async () => {
    const { guest, stateKey, nvIndex, nvData, ownerAuth, persistent } = EXAMPLE;
    await withEach(async (store) => {
      assert.deepEqual(store.guests(), [guest]);
      assert.equal(store.hostRecord('hardware')?.toString(), 'host record');
      const records = store.guestRecords(guest.id, stateKey);
      const { execute, tpm } = await openTestTpm({ store: records, keys: softwareKeys(), startup: false });
      await tpm.powerOn();
      await run(execute, Commands.Startup, { startupType: TPM_SU.STATE });
      const request = { authHandle: TPM_RH.OWNER, nvIndex, size: nvData.length, offset: 0 };
      assert.deepEqual((await run(execute, Commands.NV_Read, request, [password(ownerAuth)])).data, nvData);
      await run(execute, Commands.ReadPublic, { objectHandle: persistent });
    });
  });

  it('a daemon starts on the state directory of a host, and its guest has its keys and data', async function () {
    this.timeout(60_000);
    await withEach(async (_, example) => {
      const daemon = await RunningDaemon.create(HOST_SETTINGS);
      try {
        await cp(join(example, 'host', 'state'), daemon.config.stateDir, { recursive: true });
        await daemon.start();
        const { body } = await daemon.ask('GET', `/v1/guests/${HOST_GUEST}`);
        assert.equal(body.state, 'running', body.reason ?? '');
        await checkGuest(body.tcti, join(example, 'host', 'ak.pem'));
      } finally {
        await daemon.dispose();
      }
    });
  });

  it('a guest that was killed under an earlier version goes on', async () => {
    await withEach(async (_, example) => {
      const copy = join(directory, 'volatile');
      await cp(join(example, 'volatile'), copy, { recursive: true });
      await checkVolatile(copy);
    });
  });

  it('a backup and an audit log can be read', async () => {
    await withEach(async (_, example) => {
      const backup = openBackup(readBackup(await readFile(join(example, 'guest.tpmux'), 'utf8')), EXAMPLE.stateKey);
      assert.deepEqual(backup.meta, EXAMPLE.guest);
      assert.ok((await openRecords(EXAMPLE.guest.id, EXAMPLE.stateKey, backup.sealed)).some(([key]) => key === 'hierarchies'));
      const { entries, problems } = await readAudit(join(example, 'audit.log'));
      assert.deepEqual(problems, []);
      assert.equal(entries.at(-1)?.guest, EXAMPLE.guest.name);
    });
  });
});
