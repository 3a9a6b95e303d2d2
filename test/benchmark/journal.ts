// `npx tsx test/benchmark/journal.ts [DIRECTORY]`: what it adds to volatile commands that their effects outlive the process. DIRECTORY is where the
// journal is written; the default is /dev/shm, a tmpfs as /run is.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { BUILT_IN_PROVIDERS } from '../../src/config/names.js';
import { VolatileJournal } from '../../src/store/volatile-journal.js';
import {
  GetRandom,
  HashSequenceStart,
  NV_DefineSpace,
  NV_Read,
  NV_Write,
  PCR_Extend,
  PCR_Read,
  SequenceUpdate,
} from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPMA_NV } from '../../src/tpm/constants/index.js';
import { nameOfNvPublic } from '../../src/tpm/name.js';
import { catalogOf, providersOf } from '../properties/fixture.js';
import { type Execute, frame, none, run } from '../support/frames.js';
import { ClientSession, runWithSessions } from '../support/sessions.js';
import { openTestTpm, type TestTpmOptions } from '../support/vtpm.js';

const ROUNDS = 30;
const TIMES = 200;
const AUTH = 'auth';

const publicInfo = {
  nvIndex: 0x01500000,
  nameAlg: TPM_ALG.SHA256,
  attributes: (TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA) >>> 0,
  authPolicy: none,
  dataSize: 8,
} as const;

/** What is repeated, by name. */
async function operations(execute: Execute): Promise<Record<string, () => Promise<unknown>>> {
  const { nvIndex } = publicInfo;
  await run(execute, NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: Buffer.from(AUTH), publicInfo });
  const session = await ClientSession.start(execute);
  const names = new Map([[nvIndex, nameOfNvPublic({ ...publicInfo, attributes: (publicInfo.attributes | TPMA_NV.WRITTEN) >>> 0 })]]);
  const { sequenceHandle } = await run(execute, HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
  const use = [{ session, auth: AUTH }];
  await runWithSessions(
    execute,
    NV_Write,
    { authHandle: nvIndex, nvIndex, data: Buffer.alloc(8), offset: 0 },
    use,
    new Map([[nvIndex, nameOfNvPublic(publicInfo)]]),
  );
  const send = (bytes: Buffer) => (): Promise<unknown> => execute(bytes);
  return {
    GetRandom: send(frame(GetRandom, { bytesRequested: 32 })),
    'PCR_Read, 8 PCRs': send(frame(PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([255, 0, 0]) }] })),
    'PCR_Extend, SHA-256': send(frame(PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] })),
    'SequenceUpdate, 64 bytes': send(frame(SequenceUpdate, { sequenceHandle, buffer: Buffer.alloc(64) })),
    'NV_Read in an HMAC session': () => runWithSessions(execute, NV_Read, { authHandle: nvIndex, nvIndex, size: 8, offset: 0 }, use, names),
  };
}

/** The fastest of the rounds, which take turns so that all see the same machine, in microseconds. */
async function compare(sides: readonly (() => Promise<unknown>)[]): Promise<number[]> {
  const fastest = sides.map(() => Infinity);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, side] of sides.entries()) {
      const start = performance.now();
      for (let n = 0; n < TIMES; n++) await side();
      fastest[i] = Math.min(fastest[i] ?? Infinity, ((performance.now() - start) * 1000) / TIMES);
    }
  }
  return fastest;
}

async function main(base: string): Promise<void> {
  const directory = mkdtempSync(join(base, 'tpmux-bench-'));
  const catalog = await catalogOf([]);
  try {
    for (const names of [['digest'], BUILT_IN_PROVIDERS]) {
      const open = (others: TestTpmOptions = {}) => openTestTpm({ properties: providersOf(catalog, { names }), ...others });
      const journal = new VolatileJournal(
        { path: join(directory, names.length.toString()), guestId: 'bench', bootId: Buffer.alloc(16) },
        randomBytes(32),
      );
      const [without, kept] = [await operations((await open()).execute), await operations((await open({ journal })).execute)];
      console.log(
        `\nproviders: ${names.join(', ')}\n${''.padEnd(32)}${'without'.padStart(12)}${'with'.padStart(12)}${'added'.padStart(12)}`,
      );
      for (const [name, plain] of Object.entries(without)) {
        const [before = 0, after = 0] = await compare([plain, kept[name] ?? plain]);
        const columns = [before, after, after - before].map((each) => `${each.toFixed(1).padStart(9)} us`);
        console.log(name.padEnd(32) + columns.join(''));
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}

void main(process.argv[2] ?? '/dev/shm');
