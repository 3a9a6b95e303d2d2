// TPM 2.0 Library Part 1, 18: tpmux as the caller of one chip.
import { setTimeout as sleep } from 'node:timers/promises';
import { reasonOf } from '../../failure.js';
import { decodeResponseParameters, encodeParameters, type Command, type Request, type Response } from '../../tpm/command.js';
import { FlushContext, GetCapability, SelfTest, StartAuthSession, Startup } from '../../tpm/commands/index.js';
import { HANDLE_RANGE, TPM_CAP, TPM_RS, TPM_SU, TPMA_SESSION } from '../../tpm/constants/index.js';
import { decodeResponse, encodeCommand, responseCode } from '../../tpm/frame.js';
import { nameOfHandle } from '../../tpm/name.js';
import { baseCode, TPM_RC } from '../../tpm/response-code.js';
import { ResponseForged } from '../../tpm/response-error.js';
import type { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from '../../tpm/structures/index.js';
import { Account, ChipUsage, HOST_ACCOUNT_NAME } from '../turns/usage.js';
import {
  chooseAuthorizations,
  isOutOfSessions,
  isOutOfSlots,
  isSessionLost,
  sessionNumber,
  type Authorization,
  type ExecuteOptions,
} from './authorization.js';
import {
  connectWithin,
  DEFAULT_TIMEOUTS,
  timeoutFor,
  PROBE_ANSWER,
  type ChipLog,
  type ChipOpenOptions,
  type ChipTimeouts,
  type ChipTransport,
} from './connection.js';
import { ChipHealer } from './healer.js';
import { ChipHealth, type ChipCondition } from './health.js';
import type { ChipSession, PendingAuthorization } from './session.js';
import { ChipCleared, ChipError, ChipRestarted, ChipUnavailable, isChipFailure } from './errors.js';

const EMPTY = Buffer.alloc(0);
const FIRST_DELAY = 2;
const LONGEST_DELAY = 250;
const TRY_AGAIN = new Set<number>([TPM_RC.RETRY, TPM_RC.YIELDED, TPM_RC.TESTING, TPM_RC.CANCELED, TPM_RC.NV_RATE]);
const HANDLES_PER_QUERY = 254;

interface Prepared {
  readonly frame: Buffer;
  readonly auths: readonly (PendingAuthorization | undefined)[];
}

/**
 * One chip. Commands are encoded from the declarations that also serve the guests; those that need authorization run in
 * {@link session} and their responses are verified. Callers take turns ({@link ChipScheduler}); nothing here queues.
 *
 * A chip that is busy is asked again; one that was restarted is started up, its left-over objects and sessions are flushed, and the
 * command rejects with {@link ChipRestarted}: whoever loaded what it refers to loads it again. One that stays away, has failed or is
 * not the right one any more is left alone: commands reject at once, and it is probed in the background until it can be used again.
 */
export class Chip {
  /** All that the chip did since {@link open}. */
  usage = new ChipUsage();
  /** Whether the chip can be used. */
  readonly health: ChipHealth;
  /** The session that authorizes commands; before it is set they are authorized with passwords. */
  session: ChipSession | undefined;
  /** Frees an object slot when the chip has none left; false if it cannot. */
  relieve: ((account: Account) => Promise<boolean>) | undefined;
  /** Told when the chip lost its handles; `reset` if it was reset, so that saved contexts are void too. */
  onLost: ((reset: boolean) => void) | undefined;
  /** Rejects with {@link ChipCleared} if this is not the chip that it was; asked whenever a chip comes back, and by {@link examine}. */
  verify: ((chip: Chip, account: Account) => Promise<void>) | undefined;
  /** Told when {@link health} changes. */
  onHealth: ((condition: ChipCondition) => void) | undefined;
  /** When the chip answered last; `performance.now()`. */
  lastAnswer = performance.now();

  private readonly connect: () => Promise<ChipTransport>;
  private readonly log: ChipLog;
  private readonly timeouts: ChipTimeouts;
  private transport: ChipTransport | undefined;
  private recovering = false;
  private closed = false;
  private readonly healer = new ChipHealer(() => this.probe());

  private constructor(connect: () => Promise<ChipTransport>, log: ChipLog, timeouts: ChipTimeouts) {
    this.connect = connect;
    this.log = log;
    this.timeouts = timeouts;
    this.health = new ChipHealth(log, (condition) => this.onHealth?.(condition));
  }

  /**
   * Connects, and starts the TPM up if nobody has. Rejects with {@link ChipUnavailable} or {@link ChipError}.
   * @param connect makes a connection; called again when it was lost
   */
  static async open(connect: () => Promise<ChipTransport>, log: ChipLog, account: Account, options: ChipOpenOptions): Promise<Chip> {
    const chip = new Chip(connect, log, { ...DEFAULT_TIMEOUTS, ...options.timeouts });
    try {
      chip.transport = await connect();
    } catch (error) {
      throw new ChipUnavailable(`cannot connect to the TPM: ${reasonOf(error)}`, { cause: error });
    }
    try {
      await chip.startOver(account, options.clean);
    } catch (error) {
      await chip.close();
      throw error;
    }
    return chip;
  }

  /**
   * Executes one command. Rejects with {@link ChipError} if the chip refuses it, {@link ChipRestarted} if the chip lost its
   * handles, {@link ChipUnavailable} if it is gone, {@link ChipCleared} if it is not the right one any more, {@link ChipFailing} if
   * it has failed, {@link ResponseForged} if the response does not verify.
   * Byte fields of the result are views into a buffer that is the caller's alone.
   */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- any command there is
  async execute<C extends Command<any, any, any, any>>(of: C, request: Request<C>, options: ExecuteOptions): Promise<Response<C>> {
    const values = request as Readonly<Record<string, unknown>>;
    for (let sessionRenewed = false; ; sessionRenewed = true) {
      const { frame, auths } = await this.prepare(of, values, options);
      try {
        const response = await this.send(of.name, frame, options.account);
        const code = responseCode(of.name, response);
        if (code === TPM_RC.SUCCESS) return this.accept(of, response, auths) as Response<C>;
        if (isSessionLost(code, auths)) return await this.recover(of.name, false, options.account);
        if (sessionRenewed || !this.sessionOutOfStep(code, auths)) throw new ChipError(of.name, code);
      } finally {
        frame.fill(0);
        for (const pending of auths) pending?.key.fill(0);
      }
    }
  }

  /**
   * For who finds that the chip does not hold what it should: empties it, forgets all handles, and rejects with
   * {@link ChipRestarted} so that the job begins anew.
   */
  resynchronize(command: string, account: Account): Promise<never> {
    return this.recover(command, false, account);
  }

  /**
   * For who got an error that a chip gives that was cleared or has failed: rejects with {@link ChipCleared} or {@link ChipFailing} if
   * that is so, and resolves if it is not. Part of a job.
   */
  async examine(account: Account): Promise<void> {
    if (this.verify === undefined || this.recovering || !this.health.isWell) return;
    try {
      await this.verify(this, account);
    } catch (error) {
      if (error instanceof ChipRestarted) return;
      if (!(error instanceof ChipCleared) && !isChipFailure(error)) throw error;
      await this.fallIll(error);
      this.health.require();
    }
  }

  /** Closes the connection; what is in the chip stays there. */
  async close(): Promise<void> {
    this.closed = true;
    this.healer.stop();
    await this.disconnect();
  }

  private async prepare(of: Command, values: Readonly<Record<string, unknown>>, options: ExecuteOptions): Promise<Prepared> {
    const authorizations = chooseAuthorizations(of, options, this.session !== undefined);
    if (authorizations.some(({ kind }) => kind === 'session')) await this.session?.ensure(this, options.account);
    const handles = of.handleList.map(([name]) => values[name] as number);
    const names = handles.map((handle, i) => options.names?.[i] ?? nameOfHandle(handle));
    const parameters = encodeParameters(of.inList, values);
    const auths: (PendingAuthorization | undefined)[] = [];
    const encoded = authorizations.map((authorization): TPMS_AUTH_COMMAND => {
      const pending = this.authorize(authorization, of, names, parameters);
      auths.push('key' in pending ? pending : undefined);
      return 'key' in pending ? pending.auth : pending;
    });
    const frame = encodeCommand(of.code, handles, encoded, parameters);
    parameters.fill(0);
    return { frame, auths };
  }

  private authorize(
    how: Authorization,
    of: Command,
    names: readonly Buffer[],
    parameters: Buffer,
  ): PendingAuthorization | TPMS_AUTH_COMMAND {
    if (how.kind === 'session') {
      if (this.session === undefined) throw new Error('there is no session with the TPM');
      return this.session.authorize(of, names, parameters, how.authValue);
    }
    const sessionHandle = how.kind === 'password' ? TPM_RS.PW : how.handle;
    const hmac = how.kind === 'password' ? how.authValue : EMPTY;
    return { sessionHandle, nonce: EMPTY, sessionAttributes: TPMA_SESSION.continueSession, hmac };
  }

  private accept(of: Command, frame: Buffer, auths: Prepared['auths']): unknown {
    const { handle, parameters, authorizations } = decodeResponse(of.name, frame, of.outHandleName !== undefined, auths.length);
    auths.forEach((pending, i) => {
      if (pending !== undefined) this.session?.accept(pending, parameters, authorizations[i] as TPMS_AUTH_RESPONSE);
    });
    try {
      const values = decodeResponseParameters(of, parameters);
      return of.outHandleName === undefined ? values : { ...values, [of.outHandleName]: handle };
    } catch (error) {
      throw new ResponseForged(of.name, reasonOf(error));
    }
  }

  /**
   * A wrong HMAC may be a session that is out of step (or a wrong authValue): worth one more try in a new one, but not where the
   * chip counted it against its dictionary attack limit.
   */
  private sessionOutOfStep(code: number, auths: Prepared['auths']): boolean {
    const base = baseCode(code);
    if (sessionNumber(code, auths) === undefined || (base !== TPM_RC.BAD_AUTH && base !== TPM_RC.AUTH_FAIL)) return false;
    this.session?.distrust();
    return base === TPM_RC.BAD_AUTH;
  }

  /** Sends a frame until the chip has time and room for it. */
  private async send(command: string, frame: Buffer, account: Account): Promise<Buffer> {
    const deadline = performance.now() + this.timeouts.busy;
    for (let delay = FIRST_DELAY, tested = false, cleared = false; ;) {
      const response = await this.exchange(command, frame, account);
      const code = responseCode(command, response);
      if (code === TPM_RC.INITIALIZE) return await this.recover(command, false, account);
      if (isOutOfSlots(code) && (await this.relieve?.(account)) === true) continue;
      if (command === StartAuthSession.name && isOutOfSessions(code) && !cleared) {
        cleared = true;
        await this.flushOtherSessions(account);
        continue;
      }
      if (code === TPM_RC.NEEDS_TEST && command !== SelfTest.name && !tested) {
        tested = true;
        await this.execute(SelfTest, { fullTest: 1 }, { account });
        continue;
      }
      if (!TRY_AGAIN.has(code) || performance.now() + delay > deadline) return response;
      await sleep(delay);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }

  /**
   * Flushes the loaded sessions that are not ours: nobody else keeps one in the chip between commands, so they are left over. With a
   * slot free the chip needs no context gap for a new session either (Part 1, 30.5). Saved sessions of others stay.
   */
  private async flushOtherSessions(account: Account): Promise<void> {
    for (const handle of await this.handles(HANDLE_RANGE.HMAC_SESSION.first, account)) {
      if (handle === this.session?.handle) continue;
      this.log.warn(`the TPM has no room for a session: flushing 0x${handle.toString(16)}, which is not ours`);
      await this.execute(FlushContext, { flushHandle: handle }, { account });
    }
  }

  private async exchange(command: string, frame: Buffer, account: Account): Promise<Buffer> {
    if (this.closed) throw new ChipUnavailable('the connection to the TPM is closed');
    if (!this.health.isWell) {
      await this.healer.hurry();
      this.health.require();
      throw new ChipRestarted(command, false);
    }
    if (this.transport === undefined) return await this.recover(command, false, account);
    const start = performance.now();
    try {
      const response = await this.transport.transceive(frame, this.timeoutFor(frame));
      this.lastAnswer = performance.now();
      return response;
    } catch (error) {
      this.log.warn(`the connection to the TPM failed during ${command}: ${reasonOf(error)}`);
      await this.disconnect();
      return await this.recover(command, true, account);
    } finally {
      const milliseconds = performance.now() - start;
      account.record(milliseconds);
      this.usage.record(command, milliseconds);
    }
  }

  private timeoutFor(frame: Buffer): number {
    const usual = timeoutFor(this.timeouts, frame);
    return this.recovering ? Math.min(usual, PROBE_ANSWER) : usual;
  }

  /** Makes a chip that was restarted usable again, then tells the caller so. */
  private async recover(command: string, maybeExecuted: boolean, account: Account): Promise<never> {
    if (this.recovering) throw new ChipUnavailable(`the TPM went away during ${command}`);
    this.recovering = true;
    try {
      this.session?.reset();
      this.onLost?.(false);
      await this.restore(account);
    } catch (error) {
      await this.fallIll(error);
      this.health.require();
      throw error;
    } finally {
      this.recovering = false;
    }
    throw new ChipRestarted(command, maybeExecuted);
  }

  /** Connects if need be, starts over and makes sure that it is the right chip; again and again until timeouts ends. */
  private async restore(account: Account): Promise<void> {
    const deadline = performance.now() + this.timeouts.reconnect;
    for (let delay = FIRST_DELAY * 5; ; delay = Math.min(delay * 2, LONGEST_DELAY)) {
      try {
        this.transport ??= await connectWithin(this.connect, Math.max(deadline - performance.now(), PROBE_ANSWER));
        await this.startOver(account);
        return;
      } catch (error) {
        if (error instanceof ChipCleared || error instanceof ChipError) throw error;
        await this.disconnect();
        if (performance.now() + delay > deadline || this.closed) {
          throw new ChipUnavailable(`cannot connect to the TPM again: ${reasonOf(error)}`, { cause: error });
        }
      }
      await sleep(delay);
    }
  }

  /** Leaves the chip alone and probes it in the background. */
  private async fallIll(error: unknown): Promise<void> {
    this.session?.reset();
    this.onLost?.(false);
    await this.disconnect();
    this.health.ill(error);
    this.healer.start();
  }

  private async probe(): Promise<boolean> {
    const twin = this.twin();
    try {
      await twin.restore(new Account(HOST_ACCOUNT_NAME, 'recovery'));
      if (this.closed) throw new ChipUnavailable('the connection to the TPM is closed');
      this.transport = twin.transport;
      this.health.recovered();
      return true;
    } catch (error) {
      await twin.disconnect();
      if (!this.closed) this.health.ill(error);
      return false;
    }
  }

  /** Another way to the same chip, to find out whether it can be used, while nobody uses this one. */
  private twin(): Chip {
    const twin = new Chip(this.connect, { info: () => undefined, warn: () => undefined }, { ...this.timeouts, reconnect: 0 });
    twin.usage = this.usage;
    twin.recovering = true;
    twin.verify = this.verify;
    twin.onLost = this.onLost;
    return twin;
  }

  /** Starts the TPM up if nobody has, takes out what a killed run left (`clean`), and makes sure that it is the right one. */
  private async startOver(account: Account, clean = true): Promise<void> {
    const wasRecovering = this.recovering;
    this.recovering = true;
    try {
      if (await this.startUp(account)) {
        this.log.info('the TPM had been reset: started it up');
        this.onLost?.(true);
      }
      for (const { first } of clean ? [HANDLE_RANGE.TRANSIENT, HANDLE_RANGE.HMAC_SESSION] : []) {
        for (const handle of await this.handles(first, account)) await this.execute(FlushContext, { flushHandle: handle }, { account });
      }
      // A key at a persistent handle needs a free slot too, so this comes last.
      await this.verify?.(this, account);
    } finally {
      this.recovering = wasRecovering;
    }
  }

  /** `TPM2_Startup(CLEAR)`; false if somebody had done it already. */
  private async startUp(account: Account): Promise<boolean> {
    const frame = encodeCommand(Startup.code, [], [], encodeParameters(Startup.inList, { startupType: TPM_SU.CLEAR }));
    const code = responseCode(Startup.name, await this.exchange(Startup.name, frame, account));
    if (code !== TPM_RC.SUCCESS && code !== TPM_RC.INITIALIZE) throw new ChipError(Startup.name, code);
    return code === TPM_RC.SUCCESS;
  }

  /** Handles in the chip, of the type and from the number of `first` on. */
  async handles(first: number, account: Account): Promise<number[]> {
    const request = { capability: TPM_CAP.HANDLES, property: first, propertyCount: HANDLES_PER_QUERY };
    const { capabilityData } = await this.execute(GetCapability, request, { account });
    return capabilityData.capability === TPM_CAP.HANDLES ? capabilityData.data : [];
  }

  private async disconnect(): Promise<void> {
    const transport = this.transport;
    this.transport = undefined;
    try {
      await transport?.close();
    } catch (error) {
      this.log.warn(`closing the connection to the TPM failed: ${reasonOf(error)}`);
    }
  }
}
