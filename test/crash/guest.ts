// One guest of the crash test: works until its daemon dies, and looks at what is there when it is back.
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { HANDLE_RANGE, TPM_ALG, TPM_CAP, TPM_RH, TPM_SE, TPM_SU } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { codeOf, type Execute, frame, none, password, run } from '../support/frames.js';
import { ClientSession, execWithSessions } from '../support/sessions.js';
import {
  comparable,
  FIRST_INDEX,
  FIRST_PERSISTENT,
  FIRST_TRANSIENT,
  fixedIndices,
  type Model,
  newModel,
  NV_AUTH,
  PCRS,
  signing,
} from './model.js';
import { namesOf, nextStep, type Step, type Tools } from './steps.js';

export class CrashGuest {
  /** Commands that were acknowledged. */
  acknowledged = 0;
  private model: Model | undefined;
  private tools: Tools | undefined;
  /** Sent, and not answered: it was or was not executed. */
  private pending: Step | undefined;
  private times: { readonly time: bigint; readonly clock: bigint } = { time: 0n, clock: 0n };
  private exchange: Exchange | undefined;
  private readonly execute: Execute = (bytes) => {
    assert.ok(this.exchange);
    return this.exchange.send(bytes, responseSize);
  };

  constructor(
    readonly name: string,
    private readonly socket: string,
  ) {}

  /** Connects. The first time it starts its TPM; later all must be there as it was. */
  async connect(): Promise<void> {
    this.exchange = new Exchange({ path: this.socket });
    const code = codeOf(await this.execute(frame(Commands.Startup, { startupType: TPM_SU.CLEAR })));
    if (this.model === undefined) {
      assert.equal(code, TPM_RC.SUCCESS);
      await this.setUp();
      return;
    }
    assert.equal(code, TPM_RC.INITIALIZE, `${this.name}: the TPM was reset`);
    await this.compare();
    await this.compareTime();
  }

  /** Sends one command after the other until the connection ends. Rejects if one is refused. */
  async work(): Promise<void> {
    for (;;) {
      assert.ok(this.model && this.tools);
      const step = nextStep(this.model, this.tools);
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

  private async setUp(): Promise<void> {
    const { execute } = this;
    for (const publicInfo of Object.values(fixedIndices)) {
      await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: Buffer.from(NV_AUTH), publicInfo });
    }
    const byAuth = [password(NV_AUTH)];
    for (const { nvIndex } of [fixedIndices.durable, fixedIndices.orderly]) {
      await run(execute, Commands.NV_Write, { authHandle: nvIndex, nvIndex, data: Buffer.alloc(8), offset: 0 }, byAuth);
    }
    const { nvIndex } = fixedIndices.counter;
    await run(execute, Commands.NV_Increment, { authHandle: nvIndex, nvIndex }, byAuth);
    const { objectHandle, name } = await run(execute, Commands.CreatePrimary, {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic: signing,
      outsideInfo: none,
      creationPCR: [],
    });
    const key = { handle: objectHandle, name: name.toString('hex') };
    this.tools = {
      key,
      hmac: await ClientSession.start(execute),
      policy: await ClientSession.start(execute, { type: TPM_SE.POLICY }),
    };
    this.model = newModel(new Map([[key.handle, key.name]]), await this.observeFixed());
  }

  /** What is seen must be the model, with or without the command that was not answered. */
  private async compare(): Promise<void> {
    const { model, pending } = this;
    assert.ok(model);
    const candidates = pending === undefined ? [model] : [model, pending.after];
    let seen: unknown;
    for (const candidate of candidates) seen ??= await this.observe(candidate);
    assert.ok(seen, `${this.name}: the authorizations are not those that were set`);
    const found = candidates.filter((candidate) => isDeepStrictEqual(comparable(candidate), seen));
    if (found.length === 0) assert.deepEqual(seen, comparable(model), `${this.name}: what was acknowledged is not there`);
    await this.compareSession(pending?.usesHmac === true && found.at(-1) === pending.after);
    this.model = found.at(-1) ?? model;
    this.pending = undefined;
  }

  /** The next command in the HMAC session succeeds, unless it has rolled its nonce in an answer that nobody got. */
  private async compareSession(rolled: boolean): Promise<void> {
    assert.ok(this.tools);
    const { hmac } = this.tools;
    const { nvIndex } = fixedIndices.durable;
    const request = { authHandle: nvIndex, nvIndex, size: 8, offset: 0 };
    const { code } = await execWithSessions(
      this.execute,
      Commands.NV_Read,
      request,
      [{ session: hmac, auth: NV_AUTH }],
      namesOf('durable'),
    );
    assert.equal(code !== TPM_RC.SUCCESS, rolled, `${this.name}: the session answers 0x${code.toString(16)}`);
    if (!rolled) return;
    await hmac.end(this.execute);
    this.tools = { ...this.tools, hmac: await ClientSession.start(this.execute) };
  }

  private async compareTime(): Promise<void> {
    const { time, clockInfo } = (await run(this.execute, Commands.ReadClock, {})).currentTime;
    assert.ok(time >= this.times.time, `${this.name}: Time went back`);
    assert.ok(clockInfo.clock >= this.times.clock, `${this.name}: Clock went back`);
    assert.deepEqual([clockInfo.resetCount, clockInfo.restartCount], [1, 0], `${this.name}: power was lost`);
    this.times = { time, clock: clockInfo.clock };
  }

  private async handles(first: number): Promise<number[]> {
    const request = { capability: TPM_CAP.HANDLES, property: first, propertyCount: 100 };
    const { capabilityData } = await run(this.execute, Commands.GetCapability, request);
    return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
  }

  /** The state as the guest sees it, comparable; undefined if the authorizations of `model` are not in force. */
  private async observe(model: Model): Promise<unknown> {
    const { execute } = this;
    for (const [authHandle, auth] of [
      [TPM_RH.OWNER, model.ownerAuth],
      [TPM_RH.ENDORSEMENT, model.endorsementAuth],
    ] as const) {
      const same = frame(Commands.HierarchyChangeAuth, { authHandle, newAuth: Buffer.from(auth) }, [password(auth)]);
      if (codeOf(await execute(same)) !== TPM_RC.SUCCESS) return undefined;
    }
    assert.ok(this.tools);
    const { hmac, policy } = this.tools;
    assert.deepEqual(await this.handles(HANDLE_RANGE.HMAC_SESSION.first), [hmac.handle, policy.handle], `${this.name}: sessions`);
    const { policyDigest } = await run(execute, Commands.PolicyGetDigest, { policySession: policy.handle });
    const persistent: [number, string][] = [];
    for (const handle of await this.handles(FIRST_PERSISTENT)) persistent.push([handle, await this.nameOf(handle)]);
    return {
      ownerAuth: model.ownerAuth,
      endorsementAuth: model.endorsementAuth,
      nv: await this.observeNv(model.ownerAuth),
      fixed: await this.observeFixed(),
      persistent,
      pcrs: await this.observePcrs(),
      policyDigest: policyDigest.toString('hex'),
      ...(await this.observeLoaded()),
    };
  }

  private async observeNv(ownerAuth: string): Promise<[number, string][]> {
    const known = new Set(Object.values(fixedIndices).map(({ nvIndex }) => nvIndex));
    const seen: [number, string][] = [];
    for (const nvIndex of await this.handles(FIRST_INDEX)) {
      if (known.has(nvIndex)) continue;
      const request = frame(Commands.NV_Read, { authHandle: TPM_RH.OWNER, nvIndex, size: 32, offset: 0 }, [password(ownerAuth)]);
      const answer = await this.execute(request);
      // Header, parameter size, size of data: then 32 bytes of it. An index that was not written has none.
      seen.push([nvIndex, codeOf(answer) === TPM_RC.SUCCESS ? answer.subarray(16, 48).toString('hex') : '']);
    }
    return seen;
  }

  private async observeFixed(): Promise<Model['fixed']> {
    const read = async (nvIndex: number): Promise<string> => {
      const request = { authHandle: nvIndex, nvIndex, size: 8, offset: 0 };
      return (await run(this.execute, Commands.NV_Read, request, [password(NV_AUTH)])).data.toString('hex');
    };
    const { durable, orderly, counter } = fixedIndices;
    return { durable: await read(durable.nvIndex), orderly: await read(orderly.nvIndex), counter: await read(counter.nvIndex) };
  }

  private async observePcrs(): Promise<Model['pcrs']> {
    const pcrSelect = Buffer.alloc(3);
    for (const pcr of PCRS) pcrSelect[pcr >> 3] = (pcrSelect[pcr >> 3] ?? 0) | (1 << (pcr & 7));
    const { pcrValues } = await run(this.execute, Commands.PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect }] });
    return Object.fromEntries(PCRS.map((pcr, i) => [pcr, pcrValues[i]?.toString('hex') ?? '']));
  }

  /** Of a sequence, which has no public area, a copy is completed. */
  private async observeLoaded(): Promise<{ objects: [number, string][]; sequences: [number, string][] }> {
    const { execute } = this;
    const objects: [number, string][] = [];
    const sequences: [number, string][] = [];
    for (const handle of await this.handles(FIRST_TRANSIENT)) {
      const name = await this.nameOf(handle);
      if (name !== '') {
        objects.push([handle, name]);
        continue;
      }
      const { context } = await run(execute, Commands.ContextSave, { saveHandle: handle });
      const { loadedHandle } = await run(execute, Commands.ContextLoad, { context });
      const { result } = await run(execute, Commands.SequenceComplete, {
        sequenceHandle: loadedHandle,
        buffer: none,
        hierarchy: TPM_RH.NULL,
      });
      sequences.push([handle, result.toString('hex')]);
    }
    return { objects, sequences };
  }

  /** Empty if it is a sequence. */
  private async nameOf(objectHandle: number): Promise<string> {
    const answer = await this.execute(frame(Commands.ReadPublic, { objectHandle }));
    if (codeOf(answer) === TPM_RC.SEQUENCE) return '';
    return (await run(this.execute, Commands.ReadPublic, { objectHandle })).name.toString('hex');
  }
}
