// The daemon is killed with -9 in the middle of a workload, again and again. What was acknowledged is there afterwards.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TPM_ALG, TPM_CAP, TPM_ECC_CURVE, TPM_RH, TPM_SU, TPMA_NV, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { type Running, startTpmux, tpmux } from '../cli/command-line.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { type Execute, none, password, run } from '../support/frames.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { eccTemplate } from '../support/templates.js';

const COMMANDS = 1000;
const KILLS = 12;
const FIRST_INDEX = 0x01500000;
const FIRST_PERSISTENT = 0x81000000;
const OWNER_READ_WRITE = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;

const signing: TPMT_PUBLIC = {
  ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
  objectAttributes:
    TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
};

/** What must be there: changes that were acknowledged. */
interface Model {
  nv: Map<number, string>;
  persistent: Map<number, string>;
  ownerAuth: string;
  endorsementAuth: string;
}

/** One step of the workload: the command, and what the model is when it was acknowledged. */
interface Step {
  readonly send: (execute: Execute) => Promise<unknown>;
  readonly after: Model;
}

const copy = (model: Model): Model => ({ ...model, nv: new Map(model.nv), persistent: new Map(model.persistent) });
const pick = (count: number): number => Math.floor(Math.random() * count);

function nvStep(model: Model): Step {
  const after = copy(model);
  const nvIndex = FIRST_INDEX + pick(12);
  const on = { authHandle: TPM_RH.OWNER, nvIndex };
  const owner = [password(model.ownerAuth)];
  if (!model.nv.has(nvIndex)) {
    after.nv.set(nvIndex, '');
    const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes: OWNER_READ_WRITE, authPolicy: none, dataSize: 32 } as const;
    return { after, send: (execute) => run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo }, owner) };
  }
  if (pick(4) === 0) {
    after.nv.delete(nvIndex);
    return { after, send: (execute) => run(execute, Commands.NV_UndefineSpace, on, owner) };
  }
  const data = Buffer.from(Math.random().toString().padEnd(32, '0').slice(0, 32));
  after.nv.set(nvIndex, data.toString());
  return { after, send: (execute) => run(execute, Commands.NV_Write, { ...on, data, offset: 0 }, owner) };
}

function evictStep(model: Model, name: string): Step {
  const after = copy(model);
  const persistentHandle = FIRST_PERSISTENT + pick(6);
  const present = model.persistent.has(persistentHandle);
  if (present) after.persistent.delete(persistentHandle);
  else after.persistent.set(persistentHandle, name);
  const objectHandle = present ? persistentHandle : 0x80000000;
  const request = { auth: TPM_RH.OWNER, objectHandle, persistentHandle };
  return { after, send: (execute) => run(execute, Commands.EvictControl, request, [password(model.ownerAuth)]) };
}

function authStep(model: Model, which: 'ownerAuth' | 'endorsementAuth'): Step {
  const after = copy(model);
  after[which] = pick(2) === 0 ? '' : `auth${pick(1000).toString()}`;
  const authHandle = which === 'ownerAuth' ? TPM_RH.OWNER : TPM_RH.ENDORSEMENT;
  return {
    after,
    send: (execute) =>
      run(execute, Commands.HierarchyChangeAuth, { authHandle, newAuth: Buffer.from(after[which]) }, [password(model[which])]),
  };
}

function volatileStep(model: Model): Step {
  const digests = [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 3) }] as const;
  const sends = [
    (execute: Execute) => run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [...digests] }),
    (execute: Execute) => run(execute, Commands.GetRandom, { bytesRequested: 16 }),
  ];
  return { after: model, send: sends[pick(sends.length)]! };
}

function nextStep(model: Model, keyName: string): Step {
  const kind = pick(10);
  if (kind < 5) return nvStep(model);
  if (kind < 7) return evictStep(model, keyName);
  if (kind < 8) return authStep(model, pick(2) === 0 ? 'ownerAuth' : 'endorsementAuth');
  return volatileStep(model);
}

describe('kill -9 of the daemon', () => {
  let chip: Swtpm;
  let directory: string;
  let daemon: Running;
  let exchange: Exchange;
  let execute: Execute;

  before(async () => {
    chip = await startSwtpm();
    directory = await mkdtemp(path.join(tmpdir(), 'tpmux-kill-'));
  });
  after(async () => {
    exchange.close();
    daemon.child.kill('SIGKILL');
    await daemon.result;
    await chip.stop();
    await rm(directory, { recursive: true });
  });

  const runDir = (): string => path.join(directory, 'run');

  async function start(): Promise<void> {
    daemon = startTpmux(['serve', '--tcti', chip.tcti, '--state-dir', path.join(directory, 'state'), '--run-dir', runDir()]);
    const ended = once(daemon.child, 'close').then(() => assert.fail(`the daemon ended: ${daemon.err()}`));
    ended.catch(() => undefined);
    while (!daemon.out().includes('ready')) await Promise.race([delay(20), ended]);
  }

  /** Connects to the guest and starts its TPM up. */
  async function connect(): Promise<void> {
    exchange = new Exchange({ path: path.join(runDir(), 'guests', 'victim', 'tpm.sock') });
    execute = (frame) => exchange.send(frame, responseSize);
    await run(execute, Commands.Startup, { startupType: TPM_SU.CLEAR });
  }

  /** Loads a key at 0x80000000 and gives its name. */
  async function loadKey(ownerAuth: string): Promise<string> {
    const request = {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic: signing,
      outsideInfo: none,
      creationPCR: [],
    };
    return (await run(execute, Commands.CreatePrimary, request, [password(ownerAuth)])).name.toString('hex');
  }

  async function handles(first: number): Promise<number[]> {
    const { capabilityData } = await run(execute, Commands.GetCapability, {
      capability: TPM_CAP.HANDLES,
      property: first,
      propertyCount: 100,
    });
    return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
  }

  /** The durable state as the guest sees it; undefined if `model`'s authorisations are not in force. */
  async function observe(model: Model): Promise<Model | undefined> {
    const seen: Model = { ...model, nv: new Map(), persistent: new Map() };
    for (const authHandle of [TPM_RH.OWNER, TPM_RH.ENDORSEMENT]) {
      const auth = authHandle === TPM_RH.OWNER ? model.ownerAuth : model.endorsementAuth;
      const same = { authHandle, newAuth: Buffer.from(auth) };
      const accepted = await run(execute, Commands.HierarchyChangeAuth, same, [password(auth)]).then(
        () => true,
        () => false,
      );
      if (!accepted) return undefined;
    }
    for (const nvIndex of await handles(FIRST_INDEX)) {
      const request = { authHandle: TPM_RH.OWNER, nvIndex, size: 32, offset: 0 };
      const data = await run(execute, Commands.NV_Read, request, [password(model.ownerAuth)]).then(
        (out) => out.data.toString(),
        () => '',
      );
      seen.nv.set(nvIndex, data);
    }
    for (const objectHandle of await handles(FIRST_PERSISTENT)) {
      seen.persistent.set(objectHandle, (await run(execute, Commands.ReadPublic, { objectHandle })).name.toString('hex'));
    }
    return seen;
  }

  const sorted = (model: Model): unknown => ({ ...model, nv: [...model.nv].sort(), persistent: [...model.persistent].sort() });

  it(`loses nothing of ${COMMANDS.toString()} mixed commands, killed ${KILLS.toString()} times`, async function () {
    this.timeout(180_000);
    await start();
    const created = await tpmux(['guest', 'create', 'victim', '--run-dir', runDir()]);
    assert.equal(created.code, 0, created.err);
    await connect();
    let keyName = await loadKey('');
    const firstName = keyName;
    let model: Model = { nv: new Map(), persistent: new Map(), ownerAuth: '', endorsementAuth: '' };
    let acknowledged = 0;
    for (let round = 0; round < KILLS; round++) {
      const until = Math.ceil((COMMANDS * (round + 1)) / KILLS);
      for (; acknowledged < until; acknowledged++) {
        const step = nextStep(model, keyName);
        await step.send(execute);
        model = step.after;
      }
      const last = nextStep(model, keyName);
      const killed = last.send(execute).catch(() => undefined);
      await delay(Math.random() * 3);
      daemon.child.kill('SIGKILL');
      await daemon.result;
      await killed;
      exchange.close();
      await start();
      // The last command was or was not executed; its answer, if there was one, may not have reached us.
      await connect();
      keyName = await loadKey(model.ownerAuth).catch(() => loadKey(last.after.ownerAuth));
      assert.equal(keyName, firstName, 'the primary key is the same');
      const candidates = [model, last.after];
      const seen = (await observe(model)) ?? (await observe(last.after));
      const found = candidates.find(
        (candidate) => seen !== undefined && JSON.stringify(sorted(seen)) === JSON.stringify(sorted(candidate)),
      );
      if (found === undefined) assert.deepEqual(seen && sorted(seen), sorted(model), `after kill ${(round + 1).toString()}`);
      model = found ?? model;
    }
    console.log(`      ${acknowledged.toString()} acknowledged commands, ${KILLS.toString()} kills, nothing lost`);
  });
});
