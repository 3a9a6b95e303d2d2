// A hostile guest sends 200,000 broken commands. Every answer is well-formed, nothing fails inside, memory stays bounded, and
// another guest's session on the same chip goes on.
import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { Hardware } from '../../src/hardware/hardware.js';
import {
  TPM_ALG,
  TPM_CAP,
  TPM_ECC_CURVE,
  TPM_RH,
  TPM_SE,
  TPM_ST,
  TPMA_NV,
  TPMA_OBJECT,
  TPMA_SESSION,
} from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { codeOf, type Execute, frame, none, password, rawFrame, run } from '../support/frames.js';
import { runSeed } from '../support/random-walk.js';
import { aesCfb, ClientSession, execWithSessions } from '../support/sessions.js';
import { asParent, eccTemplate } from '../support/templates.js';
import type { TestTpm } from '../support/vtpm.js';
import { arbitraryCommand } from '../tpm/arbitrary.js';

const FROM_SCHEMAS = 100_000;
const FROM_RECORDED = 100_000;
/** Frames after which the hostile guest gets a new TPM: it will have locked itself out of its hierarchies. */
const RENEW_AFTER = 5_000;
const MAX_GROWTH = 96 * 2 ** 20;

/** A small reproducible generator (mulberry32): numbers from 0 to 1. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function memory(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const FIXED = TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth;
const parent: TPMT_PUBLIC = {
  ...asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256)),
  objectAttributes: FIXED | TPMA_OBJECT.restricted | TPMA_OBJECT.decrypt,
};
const signing: TPMT_PUBLIC = { ...eccTemplate(TPM_ECC_CURVE.NIST_P256), objectAttributes: FIXED | TPMA_OBJECT.sign };
const creation = { inSensitive: { userAuth: none, data: none }, outsideInfo: none, creationPCR: [] };
const ecdsa = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;
const ticket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;
const digest = Buffer.alloc(32, 5);

/** Frames of an ordinary use of the TPM, recorded as they were sent. */
async function record(tpm: TestTpm): Promise<Buffer[]> {
  const frames: Buffer[] = [];
  const execute: Execute = (bytes, locality) => {
    frames.push(Buffer.from(bytes));
    return tpm.execute(bytes, locality);
  };
  const top = await run(execute, Commands.CreatePrimary, { primaryHandle: TPM_RH.OWNER, inPublic: parent, ...creation });
  const made = await run(execute, Commands.Create, { parentHandle: top.objectHandle, inPublic: signing, ...creation });
  const key = await run(execute, Commands.Load, { parentHandle: top.objectHandle, inPrivate: made.outPrivate, inPublic: made.outPublic });
  const { signature } = await run(execute, Commands.Sign, { keyHandle: key.objectHandle, digest, inScheme: ecdsa, validation: ticket });
  await run(execute, Commands.VerifySignature, { keyHandle: key.objectHandle, digest, signature: signature });
  await run(execute, Commands.Quote, {
    signHandle: key.objectHandle,
    qualifyingData: digest,
    inScheme: ecdsa,
    PCRselect: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([255, 0, 1]) }],
  });
  const { context } = await run(execute, Commands.ContextSave, { saveHandle: key.objectHandle });
  await run(execute, Commands.ContextLoad, { context });
  await run(execute, Commands.LoadExternal, { inPrivate: null, inPublic: made.outPublic, hierarchy: TPM_RH.NULL });
  await run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest }] });
  await run(execute, Commands.PCR_Event, { pcrHandle: 16, eventData: Buffer.from('event') });
  await run(execute, Commands.GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property: 0x100, propertyCount: 80 });
  const nvPublic = {
    nvIndex: 0x01500001,
    nameAlg: TPM_ALG.SHA256,
    attributes: TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE,
    authPolicy: none,
    dataSize: 64,
  } as const;
  const on = { authHandle: TPM_RH.OWNER, nvIndex: nvPublic.nvIndex };
  await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo: nvPublic });
  await run(execute, Commands.NV_Write, { ...on, data: digest, offset: 0 });
  await run(execute, Commands.NV_Read, { ...on, size: 32, offset: 0 });
  const session = await ClientSession.start(execute, { salt: { handle: top.objectHandle, publicArea: top.outPublic }, symmetric: aesCfb });
  await execWithSessions(execute, Commands.GetRandom, { bytesRequested: 16 }, [
    { session, attributes: TPMA_SESSION.continueSession | TPMA_SESSION.encrypt },
  ]);
  const policy = await ClientSession.start(execute, { type: TPM_SE.POLICY });
  await run(execute, Commands.PolicyPCR, {
    policySession: policy.handle,
    pcrDigest: none,
    pcrs: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from([1, 0, 0]) }],
  });
  await run(execute, Commands.PolicyOR, { policySession: policy.handle, pHashList: [digest, digest] }, []).catch(() => undefined);
  await run(execute, Commands.HashSequenceStart, { auth: none, hashAlg: TPM_ALG.SHA256 });
  await run(execute, Commands.MakeCredential, { handle: top.objectHandle, credential: digest, objectName: made.creationHash });
  await run(execute, Commands.HierarchyChangeAuth, { authHandle: TPM_RH.ENDORSEMENT, newAuth: none });
  return frames;
}

/** Changes one to four bits or bytes, cuts, or lengthens; the size in the header is made right again half of the time. */
function mutate(original: Buffer, random: () => number): Buffer {
  let bytes: Buffer = Buffer.from(original);
  const kind = random();
  if (kind < 0.15) bytes = bytes.subarray(0, Math.floor(random() * bytes.length));
  else if (kind < 0.25) bytes = Buffer.concat([bytes, Buffer.alloc(1 + Math.floor(random() * 16), Math.floor(random() * 256))]);
  const changes = kind < 0.25 ? 0 : 1 + Math.floor(random() * 4);
  for (let i = 0; i < changes; i++) {
    const at = Math.floor(random() * bytes.length);
    const value = random() < 0.5 ? bytes[at]! ^ (1 << Math.floor(random() * 8)) : Math.floor(random() * 256);
    bytes[at] = value;
  }
  if (bytes.length >= 6 && random() < 0.5) bytes.writeUInt32BE(bytes.length, 2);
  return bytes;
}

function assertWellFormed(response: Buffer, request: Buffer, tpm: TestTpm): void {
  const what = (): string => `answer ${response.toString('hex')} to ${request.toString('hex')} (seed ${runSeed.toString()})`;
  assert.ok(response.length >= 10 && response.readUInt32BE(2) === response.length, what());
  const tag = response.readUInt16BE(0);
  const code = codeOf(response);
  if (code === TPM_RC.SUCCESS) assert.ok(tag === TPM_ST.SESSIONS || tag === TPM_ST.NO_SESSIONS, what());
  else assert.ok(response.length === 10 && tag === TPM_ST.NO_SESSIONS, what());
  const failure = tpm.failures[0];
  assert.ok(failure === undefined, `${failure?.what ?? ''}: ${String((failure?.error as Error | undefined)?.stack)}: ${what()}`);
  assert.notEqual(code, TPM_RC.FAILURE, what());
}

describe('200,000 broken commands', () => {
  let bench: Bench;
  let hardware: Hardware;
  let neighbor: TestTpm;
  let session: ClientSession;

  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
    neighbor = await openChipGuest(hardware, 'neighbor');
    session = await ClientSession.start(neighbor.execute, { symmetric: aesCfb });
  });
  after(() => bench.stop());

  /** Sends the frames to TPMs of a hostile guest and watches the neighbor and the memory. */
  async function attack(next: () => Buffer, count: number): Promise<void> {
    let hostile = await openChipGuest(hardware, 'hostile');
    let start = 0;
    for (let sent = 0; sent < count; sent++) {
      if (sent > 0 && sent % RENEW_AFTER === 0) hostile = await openChipGuest(hardware, 'hostile');
      if (sent === Math.floor(count / 5)) start = memory();
      const request = next();
      assertWellFormed(await hostile.execute(request), request, hostile);
      if (sent % 500 === 0) {
        const use = { session, attributes: TPMA_SESSION.continueSession | TPMA_SESSION.encrypt };
        assert.equal((await execWithSessions(neighbor.execute, Commands.GetRandom, { bytesRequested: 16 }, [use])).code, TPM_RC.SUCCESS);
      }
    }
    const growth = memory() - start;
    console.log(
      `      memory grew by ${(growth / 2 ** 20).toFixed(1)} MiB over the last 80 % of ${count.toString()} frames (seed ${runSeed.toString()})`,
    );
    assert.ok(growth < MAX_GROWTH, 'memory is bounded');
  }

  it(`${FROM_SCHEMAS.toString()} frames made from the schemas, most of them broken`, async function () {
    this.timeout(600_000);
    const random = generator(runSeed);
    const commands = [...Commands.commandTable.values()];
    const batch = 200;
    const pool: Buffer[] = [];
    let round = 0;
    const sessionAreas = [[], [password()], [password(), password()], [password('x')], [{ ...password(), sessionHandle: 0x02000000 }]];
    const refill = (): void => {
      const command = commands[round++ % commands.length]!;
      for (const { handles, parameters } of fc.sample(arbitraryCommand(command), { numRuns: batch, seed: runSeed + round })) {
        const numbers = Array.from({ length: handles.length / 4 }, (_, i) => handles.readUInt32BE(i * 4));
        pool.push(rawFrame(command.code, numbers, parameters, sessionAreas[Math.floor(random() * sessionAreas.length)]));
      }
    };
    await attack(() => {
      if (pool.length === 0) refill();
      const made = pool.pop()!;
      return random() < 0.7 ? mutate(made, random) : made;
    }, FROM_SCHEMAS);
  });

  it(`${FROM_RECORDED.toString()} bit flips and cuts of real frames`, async function () {
    this.timeout(600_000);
    const random = generator(runSeed);
    const recorded = await record(await openChipGuest(hardware, 'model'));
    recorded.push(frame(Commands.SelfTest, { fullTest: 1 }));
    await attack(() => mutate(recorded[Math.floor(random() * recorded.length)]!, random), FROM_RECORDED);
  });
});
