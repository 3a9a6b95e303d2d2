// TPM 2.0 Library Part 1, 18: tpmux as the caller of one chip.
import { setTimeout as sleep } from 'node:timers/promises';
import { requireWanted } from '../../tpm/canceled.js';
import { readResponse, requestFrame } from '../../tpm/client.js';
import { encodeParameters, type AnyCommand, type Command, type Request, type Response } from '../../tpm/command.js';
import { FlushContext, SelfTest, StartAuthSession, Startup } from '../../tpm/commands/index.js';
import { HANDLE_RANGE, TPM_RS, TPM_SU, TPMA_SESSION } from '../../tpm/constants/index.js';
import { encodeCommand, responseCode } from '../../tpm/frame.js';
import { nameOfHandle } from '../../tpm/name.js';
import { baseCode, TPM_RC } from '../../tpm/response-code.js';
import type { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from '../../tpm/structures/index.js';
import { Account, ChipUsage, HOST_ACCOUNT_NAME } from './usage.js';
import { chooseAuthorizations, isOutOfSessions, isOutOfSlots, isSessionLost, sessionNumber } from './authorization.js';
import { DEFAULT_TIMEOUTS, type ChipLog, type ChipOpenOptions, type ChipTimeouts, type ChipTransport } from './connection.js';
import type { ChipCondition, ChipHealth } from './health.js';
import { ChipLink } from './link.js';
import { listHandles, type Authorization, type CommandSender, type ExecuteOptions } from './sender.js';
import { ChipSession, type PendingAuthorization, type SaltKey } from './session.js';
import { ChipCleared, ChipError, ChipRestarted, isChipFailure } from './errors.js';

const EMPTY = Buffer.alloc(0);
const FIRST_DELAY = 2;
const LONGEST_DELAY = 250;
const TRY_AGAIN = new Set<number>([TPM_RC.RETRY, TPM_RC.YIELDED, TPM_RC.TESTING, TPM_RC.CANCELED, TPM_RC.NV_RATE]);

/** What a {@link Chip} is made of. */
interface ChipParts {
  readonly connect: () => Promise<ChipTransport>;
  readonly log: ChipLog;
  readonly owner: ChipOwner;
  readonly timeouts: ChipTimeouts;
  readonly usage: ChipUsage;
}

interface Prepared {
  readonly frame: Buffer;
  readonly auths: readonly (PendingAuthorization | undefined)[];
}

/** Whose keys are in the chip. */
export interface ChipOwner {
  /** Frees an object slot of a chip that has none left; false if it cannot. */
  evict(chip: SlotKeeper): Promise<boolean>;
  /** The chip lost its handles; `reset` if it was reset, so that saved contexts are void too. */
  lost(reset: boolean): void;
  /** Rejects with {@link ChipCleared} if this is not the chip that it was. */
  verify(sender: CommandSender): Promise<void>;
  /** The state of the chip is another one. */
  changed(condition: ChipCondition): void;
}

/** The chip as those see it who keep account of what is in its slots. */
export interface SlotKeeper extends CommandSender {
  /**
   * For who finds that the chip does not hold what it should: empties it, forgets all handles, and rejects with
   * {@link ChipRestarted} so that the job begins anew.
   */
  resynchronize(command: string): Promise<never>;
}

/**
 * One chip. Commands are encoded from the declarations that also serve the guests; those that need authorization run in a session
 * ({@link authorizeWith}) and their responses are verified. Callers take turns (`turns/turns.ts`); nothing here queues.
 *
 * A chip that is busy is asked again; one that was restarted is started up, its left-over objects and sessions are flushed, and the
 * command rejects with {@link ChipRestarted}: whoever loaded what it refers to loads it again. One that stays away, has failed or is
 * not the right one any more is left alone: commands reject at once, and it is probed in the background until it can be used again.
 */
export class Chip implements SlotKeeper {
  /** All that the chip did since {@link open}. */
  readonly usage: ChipUsage;
  private readonly connect: () => Promise<ChipTransport>;
  private readonly log: ChipLog;
  private readonly owner: ChipOwner;
  private readonly timeouts: ChipTimeouts;
  private readonly link: ChipLink;
  private session: ChipSession | undefined;
  private payer = new Account(HOST_ACCOUNT_NAME, 'housekeeping');

  private constructor({ connect, log, owner, timeouts, usage }: ChipParts) {
    this.connect = connect;
    this.log = log;
    this.owner = owner;
    this.timeouts = timeouts;
    this.usage = usage;
    this.link = new ChipLink({
      connect,
      log,
      timeouts,
      startOver: () => this.startOver(),
      forget: () => {
        this.session?.reset();
        owner.lost(false);
      },
      probe: () => this.twin().link.prove(),
      sent: (command, milliseconds) => {
        this.payer.record(milliseconds);
        usage.record(command, milliseconds);
      },
      onChange: (condition) => {
        owner.changed(condition);
      },
    });
  }

  /**
   * Connects, and starts the TPM up if nobody has. Rejects with {@link ChipUnavailable} or {@link ChipError}.
   * @param connect makes a connection; called again when it was lost
   */
  static async open(connect: () => Promise<ChipTransport>, log: ChipLog, owner: ChipOwner, options: ChipOpenOptions): Promise<Chip> {
    const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
    const chip = new Chip({ connect, log, owner, timeouts, usage: new ChipUsage() });
    await chip.link.open(() => chip.startOver(options.clean));
    return chip;
  }

  /** Whether the chip can be used. */
  get health(): ChipHealth {
    return this.link.health;
  }

  /** When the chip answered last; `performance.now()`. */
  get lastAnswer(): number {
    return this.link.lastAnswer;
  }

  /** Who pays for the commands that follow. */
  billTo(payer: Account): void {
    this.payer = payer;
  }

  /** Authorizes commands in a session from now on; its secret is agreed with `key`, which is known to be the chip's. Before, passwords do. */
  authorizeWith(key: SaltKey): void {
    this.session = new ChipSession(key);
  }

  /** Takes the session out of the chip, if there is one. Commands are authorized with passwords from now on. */
  async endSession(): Promise<void> {
    const { session } = this;
    this.session = undefined;
    await session?.end(this);
  }

  async execute<C extends AnyCommand>(of: C, request: Request<C>, options: ExecuteOptions = {}): Promise<Response<C>> {
    const values = request as Readonly<Record<string, unknown>>;
    for (let sessionRenewed = false; ; sessionRenewed = true) {
      const { frame, auths } = await this.prepare(of, values, options);
      try {
        const response = await this.send(of.name, frame, options.signal);
        const code = responseCode(of.name, response);
        if (code === TPM_RC.SUCCESS) return this.accept(of, response, auths);
        if (isSessionLost(code, auths)) return await this.link.recover(of.name, 'handles-lost', false);
        if (sessionRenewed || !this.sessionOutOfStep(code, auths)) throw new ChipError(of.name, code);
      } finally {
        frame.fill(0);
        for (const pending of auths) pending?.key.fill(0);
      }
    }
  }

  async flush(flushHandle: number): Promise<void> {
    await this.execute(FlushContext, { flushHandle });
  }

  resynchronize(command: string): Promise<never> {
    return this.link.recover(command, 'handles-lost', false);
  }

  /**
   * For who got an error that a chip gives that was cleared or has failed: rejects with {@link ChipCleared} or {@link ChipFailing} if
   * that is so, and resolves if it is not. Part of a job.
   */
  async examine(): Promise<void> {
    if (this.link.recovering || !this.health.isWell) return;
    try {
      await this.owner.verify(this);
    } catch (error) {
      if (error instanceof ChipRestarted) return;
      if (!(error instanceof ChipCleared) && !isChipFailure(error)) throw error;
      await this.link.diagnosed(error);
    }
  }

  /** Closes the connection; what is in the chip stays there. */
  async close(): Promise<void> {
    await this.link.close();
  }

  private async prepare(of: Command, values: Readonly<Record<string, unknown>>, options: ExecuteOptions): Promise<Prepared> {
    const authorizations = chooseAuthorizations(of, options, this.session !== undefined);
    if (authorizations.some(({ kind }) => kind === 'session')) await this.session?.ensure(this);
    const auths: (PendingAuthorization | undefined)[] = [];
    const frame = requestFrame(of, values, (handles, parameters) => {
      const names = handles.map((handle, i) => options.names?.[i] ?? nameOfHandle(handle));
      return authorizations.map((authorization): TPMS_AUTH_COMMAND => {
        const pending = this.authorize(authorization, of, names, parameters);
        auths.push('key' in pending ? pending : undefined);
        return 'key' in pending ? pending.auth : pending;
      });
    });
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

  private accept<C extends AnyCommand>(of: C, frame: Buffer, auths: Prepared['auths']): Response<C> {
    return readResponse(of, frame, auths.length, (authorizations, parameters) => {
      auths.forEach((pending, i) => {
        if (pending !== undefined) this.session?.accept(pending, parameters, authorizations[i] as TPMS_AUTH_RESPONSE);
      });
    });
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

  /** Sends a frame until the chip has time and room for it, or nobody waits any more. */
  private async send(command: string, frame: Buffer, signal: AbortSignal | undefined): Promise<Buffer> {
    const deadline = performance.now() + this.timeouts.busy;
    for (let delay = FIRST_DELAY, tested = false, cleared = false; ;) {
      requireWanted(signal);
      const response = await this.link.transceive(command, frame);
      const code = responseCode(command, response);
      if (code === TPM_RC.SUCCESS) return response;
      requireWanted(signal);
      if (code === TPM_RC.INITIALIZE) return await this.link.recover(command, 'handles-lost', false);
      if (isOutOfSlots(code) && (await this.owner.evict(this))) continue;
      if (command === StartAuthSession.name && isOutOfSessions(code) && !cleared) {
        cleared = true;
        await this.flushOtherSessions();
        continue;
      }
      if (code === TPM_RC.NEEDS_TEST && command !== SelfTest.name && !tested) {
        tested = true;
        await this.execute(SelfTest, { fullTest: 1 });
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
  private async flushOtherSessions(): Promise<void> {
    for (const handle of await listHandles(this, HANDLE_RANGE.HMAC_SESSION.first)) {
      if (handle === this.session?.handle) continue;
      this.log.warn(`the TPM has no room for a session: flushing 0x${handle.toString(16)}, which is not ours`);
      await this.flush(handle);
    }
  }

  /** Another way to the same chip, to find out whether it can be used, while nobody uses this one. */
  private twin(): Chip {
    const { connect, owner, timeouts, usage } = this;
    const twin = new Chip({ connect, log: { info: () => undefined, warn: () => undefined }, owner, timeouts, usage });
    twin.payer = new Account(HOST_ACCOUNT_NAME, 'recovery');
    return twin;
  }

  /** Starts the TPM up if nobody has, takes out what a killed run left (`clean`), and makes sure that it is the right one. */
  private async startOver(clean = true): Promise<void> {
    if (await this.startUp()) {
      this.log.info('the TPM had been reset: started it up');
      this.owner.lost(true);
    }
    for (const { first } of clean ? [HANDLE_RANGE.TRANSIENT, HANDLE_RANGE.HMAC_SESSION] : []) {
      for (const handle of await listHandles(this, first)) await this.flush(handle);
    }
    // A key at a persistent handle needs a free slot too, so this comes last.
    await this.owner.verify(this);
  }

  /** `TPM2_Startup(CLEAR)`; false if somebody had done it already. */
  private async startUp(): Promise<boolean> {
    const frame = encodeCommand(Startup.code, [], [], encodeParameters(Startup.inList, { startupType: TPM_SU.CLEAR }));
    const code = responseCode(Startup.name, await this.link.transceive(Startup.name, frame));
    if (code !== TPM_RC.SUCCESS && code !== TPM_RC.INITIALIZE) throw new ChipError(Startup.name, code);
    return code === TPM_RC.SUCCESS;
  }
}
