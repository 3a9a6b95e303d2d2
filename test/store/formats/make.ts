// Makes the stored examples of the present formats: npx tsx test/store/formats/make.ts DIRECTORY
// Run it once for a new format, into a directory of its own, and keep what it makes for ever: formats.test.ts opens all of them.
import { copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { encodeBackup } from '../../../src/guests/backups/document.js';
import { AuditLog } from '../../../src/host/audit-log.js';
import type { HostStore } from '../../../src/store/host-store.js';
import { openHostStore } from '../../support/host-store.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { RunningDaemon } from '../../support/running-daemon.js';
import { none, run } from '../../support/frames.js';
import { eccTemplate } from '../../support/templates.js';
import { openTestTpm, softwareKeys } from '../../support/vtpm.js';
import { EXAMPLE } from './example.js';
import { fillGuest, HOST_GUEST, HOST_POLICY, HOST_SETTINGS } from './example-host.js';
import { makeVolatile } from './example-volatile.js';

async function fill(store: HostStore): Promise<void> {
  const { guest, stateKey, nvIndex, nvData, ownerAuth } = EXAMPLE;
  await store.restoreGuest({ meta: guest, keyBlobs: Buffer.from('key blobs'), recovery: null, sealed: [] });
  await store.putHostRecords(new Map([['hardware', Buffer.from('host record')]]));
  const { execute, tpm } = await openTestTpm({ store: store.guestRecords(guest.id, stateKey), keys: softwareKeys() });
  const publicInfo = {
    nvIndex,
    nameAlg: TPM_ALG.SHA256,
    attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
    authPolicy: none,
    dataSize: nvData.length,
  } as const;
  await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
  await run(execute, Commands.NV_Write, { authHandle: TPM_RH.OWNER, nvIndex, data: nvData, offset: 0 });
  const made = await run(execute, Commands.CreatePrimary, {
    primaryHandle: TPM_RH.OWNER,
    inSensitive: { userAuth: none, data: none },
    inPublic: eccTemplate(TPM_ECC_CURVE.NIST_P256),
    outsideInfo: none,
    creationPCR: [],
  });
  await run(execute, Commands.EvictControl, { auth: TPM_RH.OWNER, objectHandle: made.objectHandle, persistentHandle: EXAMPLE.persistent });
  const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }];
  await run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests });
  await run(execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.from(ownerAuth) });
  await run(execute, Commands.Shutdown, { shutdownType: TPM_SU.STATE });
  await tpm.powerOff();
}

/** The state directory of a daemon, and the public part of a key of its guest. */
async function makeHost(target: string): Promise<void> {
  await mkdir(target);
  const daemon = await RunningDaemon.create(HOST_SETTINGS);
  try {
    await daemon.start();
    const { body } = await daemon.ask('POST', '/v1/guests', { name: HOST_GUEST, policy: HOST_POLICY });
    await fillGuest(body.tcti, join(target, 'ak.pem'));
    await daemon.stop();
    await cp(daemon.config.stateDir, join(target, 'state'), { recursive: true });
  } finally {
    await daemon.dispose();
  }
}

async function make(target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-example-'));
  const store = await openHostStore(join(directory, 'store'));
  await fill(store);
  const backup = encodeBackup(await store.storedGuest(EXAMPLE.guest), EXAMPLE.stateKey, new Date('2026-01-02T03:04:05.678Z'));
  await store.close();
  await copyFile(join(directory, 'store', 'store.db'), join(target, 'store.db'));
  await writeFile(join(target, 'guest.tpmux'), backup);
  const log = await AuditLog.open(join(target, 'audit.log'), { load: () => undefined, save: () => Promise.resolve() });
  await log.note({ event: 'guest-created', guest: EXAMPLE.guest.name, id: EXAMPLE.guest.id });
  await rm(directory, { recursive: true });
  await makeHost(join(target, 'host'));
  await makeVolatile(join(target, 'volatile'));
}

void make(resolve(process.argv[2] ?? ''));
