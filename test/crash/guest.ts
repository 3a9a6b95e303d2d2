// One guest of the crash test: works until its daemon dies, and looks at what is there when it is back.
import assert from 'node:assert/strict';
import { TPM_CAP, TPM_RH, TPM_SU } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { codeOf, type Execute, frame, none, password, run } from '../support/frames.js';
import { FIRST_INDEX, FIRST_PERSISTENT, type Key, type Model, newModel, nextStep, signing, sorted, type Step } from './model.js';

const FIRST_TRANSIENT = 0x80000000;

export class CrashGuest {
  /** Commands that were acknowledged. */
  acknowledged = 0;
  private model: Model = newModel();
  /** Sent, and not answered: it was or was not executed. */
  private pending: Step | undefined;
  private key: Key | undefined;
  private exchange: Exchange | undefined;
  private readonly execute: Execute = (bytes) => {
    assert.ok(this.exchange);
    return this.exchange.send(bytes, responseSize);
  };

  constructor(
    readonly name: string,
    private readonly socket: string,
  ) {}

  /** Connects, starts the TPM if it is not started, and compares it with the model. */
  async connect(): Promise<void> {
    this.exchange = new Exchange({ path: this.socket });
    const code = codeOf(await this.execute(frame(Commands.Startup, { startupType: TPM_SU.CLEAR })));
    assert.ok(code === TPM_RC.SUCCESS || code === TPM_RC.INITIALIZE, `${this.name}: Startup is answered 0x${code.toString(16)}`);
    for (const flushHandle of await this.handles(FIRST_TRANSIENT)) await run(this.execute, Commands.FlushContext, { flushHandle });
    await this.compare();
    this.pending = undefined;
    const key = await this.loadKey();
    if (this.key !== undefined) assert.equal(key.name, this.key.name, `${this.name}: the primary key is the same`);
    this.key = key;
  }

  /** Sends one command after the other until the connection ends. Rejects if one is refused. */
  async work(): Promise<void> {
    for (;;) {
      assert.ok(this.key);
      const step = nextStep(this.model, this.key);
      this.pending = step;
      try {
        await step.send(this.execute);
      } catch (error) {
        if (error instanceof Error && error.message === 'the peer closed the connection') return;
        throw error;
      }
      this.model = step.after;
      this.pending = undefined;
      this.acknowledged++;
    }
  }

  close(): void {
    this.exchange?.close();
  }

  private async compare(): Promise<void> {
    const candidates = this.pending === undefined ? [this.model] : [this.model, this.pending.after];
    let seen: Model | undefined;
    for (const candidate of candidates) seen ??= await this.observe(candidate);
    assert.ok(seen, `${this.name}: the authorisations are not those that were set`);
    const found = candidates.find((candidate) => JSON.stringify(sorted(candidate)) === JSON.stringify(sorted(seen)));
    if (found === undefined) assert.deepEqual(sorted(seen), sorted(this.model), `${this.name}: what was acknowledged is not there`);
    this.model = found ?? this.model;
  }

  private async loadKey(): Promise<Key> {
    const request = {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic: signing,
      outsideInfo: none,
      creationPCR: [],
    };
    const { objectHandle, name } = await run(this.execute, Commands.CreatePrimary, request, [password(this.model.ownerAuth)]);
    return { handle: objectHandle, name: name.toString('hex') };
  }

  private async handles(first: number): Promise<number[]> {
    const request = { capability: TPM_CAP.HANDLES, property: first, propertyCount: 100 };
    const { capabilityData } = await run(this.execute, Commands.GetCapability, request);
    return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
  }

  /** The durable state as the guest sees it; undefined if the authorisations of `model` are not in force. */
  private async observe(model: Model): Promise<Model | undefined> {
    const { execute } = this;
    const seen: Model = { ...model, nv: new Map(), persistent: new Map() };
    for (const [authHandle, auth] of [
      [TPM_RH.OWNER, model.ownerAuth],
      [TPM_RH.ENDORSEMENT, model.endorsementAuth],
    ] as const) {
      const same = frame(Commands.HierarchyChangeAuth, { authHandle, newAuth: Buffer.from(auth) }, [password(auth)]);
      if (codeOf(await execute(same)) !== TPM_RC.SUCCESS) return undefined;
    }
    for (const nvIndex of await this.handles(FIRST_INDEX)) {
      const request = frame(Commands.NV_Read, { authHandle: TPM_RH.OWNER, nvIndex, size: 32, offset: 0 }, [password(model.ownerAuth)]);
      const answer = await execute(request);
      // Header, parameter size, size of data: then 32 bytes of it. An index that was not written has none.
      seen.nv.set(nvIndex, codeOf(answer) === TPM_RC.SUCCESS ? answer.subarray(16, 48).toString() : '');
    }
    for (const objectHandle of await this.handles(FIRST_PERSISTENT)) {
      seen.persistent.set(objectHandle, (await run(execute, Commands.ReadPublic, { objectHandle })).name.toString('hex'));
    }
    return seen;
  }
}
