// TPM 2.0 Library Part 1, 18: tpmux as the caller of one chip.
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeResponseParameters, encodeParameters, type Command, type Request, type Response } from '../tpm/command.js';
import { FlushContext, GetCapability, SelfTest, StartAuthSession, Startup } from '../tpm/commands/index.js';
import { HANDLE_RANGE, TPM_CAP, TPM_RS, TPM_SU, TPMA_SESSION } from '../tpm/constants/index.js';
import { baseCode, TPM_RC } from '../tpm/response-code.js';
import { ChipUsage, type Account } from './account.js';
import type { ChipSession, PendingAuthorization } from './chip-session.js';
import { ChipError, ChipResponseForged, ChipRestarted, ChipUnavailable } from './errors.js';
import { decodeResponse, encodeCommand, responseCode, type AuthCommand, type AuthResponse } from './frame.js';

/** A connection to a chip: whole command frames in, whole response frames out, one at a time. */
export interface ChipTransport {
  /** Rejects when there is no answer within `timeout` milliseconds. */
  transceive(command: Buffer, timeout: number): Promise<Buffer>;
  close(): void | Promise<void>;
}

/** Where the chip's troubles are told; a winston logger is one. */
export interface ChipLog {
  info(message: string): unknown;
  warn(message: string): unknown;
}

/** How one handle of a command is authorised, or how a command that needs no authorisation is protected. */
export type Authorization =
  /** The long-lived session; `authValue` is undefined where it only protects the command. */
  | { readonly kind: 'session'; readonly authValue: Buffer | undefined }
  /** A password, in clear on the bus. */
  | { readonly kind: 'password'; readonly authValue: Buffer }
  /** A policy session of the caller's that is neither salted nor bound and whose policy asks for no authValue. */
  | { readonly kind: 'policy'; readonly handle: number };

/** How a command is executed. */
export interface ExecuteOptions {
  /** Who pays. */
  readonly account: Account;
  /** Names of the handles, in order; a handle that is its own Name (permanent, PCR, session) is left undefined. */
  readonly names?: readonly (Buffer | undefined)[];
  /** Authorisation value of the first handle that needs one (default: empty); it goes into the long-lived session's HMAC. */
  readonly authValue?: Buffer;
  /** Instead of {@link authValue}: what each handle that needs authorisation gets, then further sessions. */
  readonly authorizations?: readonly Authorization[];
  /** Puts a command that needs no authorisation into the long-lived session. */
  readonly protect?: boolean;
}

/** How {@link Chip.open} treats the chip. */
export interface ChipOpenOptions {
  /** Flush transient objects and loaded sessions, which a run that was killed may have left; saved sessions stay. */
  readonly clean: boolean;
  readonly patience?: Partial<ChipPatience> | undefined;
}

/** How long to wait for a chip that is busy or gone, in milliseconds. */
export interface ChipPatience {
  /** For a command that the chip answers with "try again". */
  readonly busy: number;
  /** For the chip to accept a connection again. */
  readonly reconnect: number;
  /** For the answer to one command; making an RSA key takes some chips a minute. */
  readonly answer: number;
}

const DEFAULT_PATIENCE: ChipPatience = { busy: 20_000, reconnect: 10_000, answer: 300_000 };
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
 * One chip. Commands are encoded from the declarations that also serve the guests; those that need authorisation run in
 * {@link session} and their responses are verified. Callers take turns ({@link ChipScheduler}); nothing here queues.
 *
 * A chip that is busy is asked again; one that was restarted is started up, its left-over objects and sessions are flushed, and the
 * command rejects with {@link ChipRestarted}: whoever loaded what it refers to loads it again.
 */
export class Chip {
  /** All that the chip did since {@link open}. */
  readonly usage = new ChipUsage();
  /** The session that authorises commands; before it is set they are authorised with passwords. */
  session: ChipSession | undefined;
  /** Frees an object slot when the chip has none left; false if it cannot. */
  relieve: ((account: Account) => Promise<boolean>) | undefined;
  /** Told when the chip lost its handles; `reset` if it was reset, so that saved contexts are void too. */
  onLost: ((reset: boolean) => void) | undefined;

  private readonly connect: () => Promise<ChipTransport>;
  private readonly log: ChipLog;
  private readonly patience: ChipPatience;
  private transport: ChipTransport | undefined;
  private recovering = false;
  private closed = false;

  private constructor(connect: () => Promise<ChipTransport>, log: ChipLog, patience: ChipPatience) {
    this.connect = connect;
    this.log = log;
    this.patience = patience;
  }

  /**
   * Connects, and starts the TPM up if nobody has. Rejects with {@link ChipUnavailable} or {@link ChipError}.
   * @param connect makes a connection; called again when it was lost
   */
  static async open(connect: () => Promise<ChipTransport>, log: ChipLog, account: Account, options: ChipOpenOptions): Promise<Chip> {
    const chip = new Chip(connect, log, { ...DEFAULT_PATIENCE, ...options.patience });
    try {
      chip.transport = await connect();
    } catch (error) {
      throw new ChipUnavailable(`cannot connect to the TPM: ${reason(error)}`, { cause: error });
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
   * handles, {@link ChipUnavailable} if it is gone, {@link ChipResponseForged} if the response does not verify.
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
  resynchronise(command: string, account: Account): Promise<never> {
    return this.recover(command, false, account);
  }

  /** Closes the connection; what is in the chip stays there. */
  async close(): Promise<void> {
    this.closed = true;
    await this.disconnect();
  }

  private async prepare(of: Command, values: Readonly<Record<string, unknown>>, options: ExecuteOptions): Promise<Prepared> {
    const authorizations = chooseAuthorizations(of, options, this.session !== undefined);
    if (authorizations.some(({ kind }) => kind === 'session')) await this.session?.ensure(this, options.account);
    const handles = of.handleList.map(([name]) => values[name] as number);
    const names = handles.map((handle, i) => options.names?.[i] ?? handleName(handle));
    const parameters = encodeParameters(of.inList, values);
    const auths: (PendingAuthorization | undefined)[] = [];
    const encoded = authorizations.map((authorization): AuthCommand => {
      const pending = this.authorise(authorization, of, names, parameters);
      auths.push('key' in pending ? pending : undefined);
      return 'key' in pending ? pending.auth : pending;
    });
    const frame = encodeCommand(of.code, handles, encoded, parameters);
    parameters.fill(0);
    return { frame, auths };
  }

  private authorise(how: Authorization, of: Command, names: readonly Buffer[], parameters: Buffer): PendingAuthorization | AuthCommand {
    if (how.kind === 'session') {
      if (this.session === undefined) throw new Error('there is no session with the TPM');
      return this.session.authorise(of, names, parameters, how.authValue);
    }
    const sessionHandle = how.kind === 'password' ? TPM_RS.PW : how.handle;
    const hmac = how.kind === 'password' ? how.authValue : EMPTY;
    return { sessionHandle, nonceCaller: EMPTY, sessionAttributes: TPMA_SESSION.continueSession, hmac };
  }

  private accept(of: Command, frame: Buffer, auths: Prepared['auths']): unknown {
    const { handle, parameters, authorizations } = decodeResponse(of.name, frame, of.outHandleName !== undefined, auths.length);
    auths.forEach((pending, i) => {
      if (pending !== undefined) this.session?.accept(pending, parameters, authorizations[i] as AuthResponse);
    });
    try {
      const values = decodeResponseParameters(of, parameters);
      return of.outHandleName === undefined ? values : { ...values, [of.outHandleName]: handle };
    } catch (error) {
      throw new ChipResponseForged(of.name, reason(error));
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
    const patienceEnds = performance.now() + this.patience.busy;
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
      if (!TRY_AGAIN.has(code) || performance.now() + delay > patienceEnds) return response;
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
    if (this.transport === undefined) return await this.recover(command, false, account);
    const start = performance.now();
    try {
      return await this.transport.transceive(frame, this.patience.answer);
    } catch (error) {
      this.log.warn(`the connection to the TPM failed during ${command}: ${reason(error)}`);
      await this.disconnect();
      return await this.recover(command, true, account);
    } finally {
      const milliseconds = performance.now() - start;
      account.record(milliseconds);
      this.usage.record(command, milliseconds);
    }
  }

  /** Makes a chip that was restarted usable again, then tells the caller so. */
  private async recover(command: string, maybeExecuted: boolean, account: Account): Promise<never> {
    if (this.recovering) throw new ChipUnavailable(`the TPM went away during ${command}`);
    this.recovering = true;
    try {
      this.session?.reset();
      this.onLost?.(false);
      if (this.transport === undefined) await this.reconnect();
      await this.startOver(account);
    } finally {
      this.recovering = false;
    }
    throw new ChipRestarted(command, maybeExecuted);
  }

  private async reconnect(): Promise<void> {
    const patienceEnds = performance.now() + this.patience.reconnect;
    for (let delay = FIRST_DELAY * 5; ; delay = Math.min(delay * 2, LONGEST_DELAY)) {
      try {
        this.transport = await this.connect();
        return;
      } catch (error) {
        if (performance.now() + delay > patienceEnds || this.closed) {
          throw new ChipUnavailable(`cannot connect to the TPM again: ${reason(error)}`, { cause: error });
        }
      }
      await sleep(delay);
    }
  }

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
      this.log.warn(`closing the connection to the TPM failed: ${reason(error)}`);
    }
  }
}

function chooseAuthorizations(of: Command, options: ExecuteOptions, hasSession: boolean): readonly Authorization[] {
  if (options.authorizations !== undefined) return options.authorizations;
  const needed = of.handleList.filter(([, field]) => field.role !== undefined).length;
  if (needed === 0) return options.protect === true && hasSession ? [{ kind: 'session', authValue: undefined }] : [];
  const authValue = options.authValue ?? EMPTY;
  const others = Array.from({ length: needed - 1 }, (): Authorization => ({ kind: 'password', authValue: EMPTY }));
  return [{ kind: hasSession ? 'session' : 'password', authValue }, ...others];
}

/** Index of the long-lived session among the command's, if `code` is about it. */
function sessionNumber(code: number, auths: Prepared['auths']): number | undefined {
  const index = auths.findIndex((pending) => pending !== undefined);
  return index >= 0 && (code & 0xf80) === 0x880 + ((index + 1) << 8) ? index : undefined;
}

/** Whether the chip does not have the session: it was reset and started up behind our back, or somebody flushed all. */
function isSessionLost(code: number, auths: Prepared['auths']): boolean {
  const index = auths.findIndex((pending) => pending !== undefined);
  if (index >= 0 && code === TPM_RC.REFERENCE_S0 + index) return true;
  const base = baseCode(code);
  return sessionNumber(code, auths) !== undefined && (base === TPM_RC.HANDLE || base === TPM_RC.VALUE);
}

function handleName(handle: number): Buffer {
  const name = Buffer.allocUnsafe(4);
  name.writeUInt32BE(handle);
  return name;
}

function isOutOfSlots(code: number): boolean {
  return code === TPM_RC.OBJECT_MEMORY || code === TPM_RC.OBJECT_HANDLES;
}

function isOutOfSessions(code: number): boolean {
  return code === TPM_RC.SESSION_MEMORY || code === TPM_RC.SESSION_HANDLES || code === TPM_RC.CONTEXT_GAP;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
