// A guest that was killed while it ran: the store and the journal of volatile state of that moment.
import assert from 'node:assert/strict';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openHostStore } from '../../support/host-store.js';
import { deriveJournalKey, VolatileJournal } from '../../../src/store/volatile-journal.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_SE, TPMA_NV } from '../../../src/tpm/constants/index.js';
import * as Commands from '../../../src/tpm/commands/index.js';
import { none, run } from '../../support/frames.js';
import { ClientSession } from '../../support/sessions.js';
import { eccTemplate } from '../../support/templates.js';
import { openTestTpm, softwareKeys, type TestTpm } from '../../support/vtpm.js';
import { EXAMPLE } from './example.js';

const { guest, stateKey, nvIndex } = EXAMPLE;
const DATA = Buffer.from('orderly!');
const OBJECT = 0x80000000;
const SEQUENCE = 0x80000001;
const POLICY = 0x03000000;

function journalIn(directory: string): VolatileJournal {
  const path = join(directory, 'guest.journal');
  return new VolatileJournal({ path, guestId: guest.id, bootId: Buffer.alloc(16) }, deriveJournalKey(stateKey));
}

async function fill({ execute }: TestTpm): Promise<void> {
  const attributes = (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA | TPMA_NV.ORDERLY) >>> 0;
  const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: DATA.length } as const;
  await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
  await run(execute, Commands.NV_Write, { authHandle: nvIndex, nvIndex, data: DATA, offset: 0 });
  const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }];
  await run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests });
  await run(execute, Commands.CreatePrimary, {
    primaryHandle: TPM_RH.OWNER,
    inSensitive: { userAuth: none, data: none },
    inPublic: eccTemplate(TPM_ECC_CURVE.NIST_P256),
    outsideInfo: none,
    creationPCR: [],
  });
  await run(execute, Commands.HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
  await run(execute, Commands.SequenceUpdate, { sequenceHandle: SEQUENCE, buffer: Buffer.from('data') });
  await ClientSession.start(execute, { type: TPM_SE.POLICY });
  await run(execute, Commands.PolicyAuthValue, { policySession: POLICY });
}

/** Writes `store.db` and `guest.journal` into a new directory. */
export async function makeVolatile(target: string): Promise<void> {
  await mkdir(target);
  const directory = await mkdtemp(join(tmpdir(), 'tpmux-example-'));
  const store = await openHostStore(directory);
  await store.restoreGuest({ meta: guest, keyBlobs: Buffer.from('key blobs'), recovery: null, sealed: [] });
  const journal = journalIn(target);
  await fill(await openTestTpm({ store: store.guestRecords(guest.id, stateKey), keys: softwareKeys(), journal }));
  journal.release();
  await store.close();
  await copyFile(join(directory, 'store.db'), join(target, 'store.db'));
  await rm(directory, { recursive: true });
}

/** Goes on where that guest was. `directory` is a copy of what {@link makeVolatile} made. */
export async function checkVolatile(directory: string): Promise<void> {
  const store = await openHostStore(directory);
  try {
    const keys = softwareKeys();
    const { tpm, execute } = await openTestTpm({
      store: store.guestRecords(guest.id, stateKey),
      keys,
      journal: journalIn(directory),
      startup: false,
    });
    assert.ok(await tpm.resume());
    assert.deepEqual((await run(execute, Commands.NV_Read, { authHandle: nvIndex, nvIndex, size: DATA.length, offset: 0 })).data, DATA);
    assert.equal(tpm.readPcr(TPM_ALG.SHA256, 10)?.toString('hex'), '5c85955f709283ecce2b74f1b1552918819f390911816e7bb466805a38ab87f3');
    await run(execute, Commands.ReadPublic, { objectHandle: OBJECT });
    const { policyDigest } = await run(execute, Commands.PolicyGetDigest, { policySession: POLICY });
    // As for every TPM: SHA-256 of 32 zero bytes and TPM_CC_PolicyAuthValue.
    assert.equal(policyDigest.toString('hex'), '8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e');
    const { result } = await run(execute, Commands.SequenceComplete, { sequenceHandle: SEQUENCE, buffer: none, hierarchy: TPM_RH.NULL });
    assert.equal(result.toString('hex'), '3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7');
  } finally {
    await store.close();
  }
}
