// TPM 2.0 Library Part 3, 5: command processing.
import { atHandle, TPM_RC, TpmError } from '../../tpm/response-code.js';
import { type Command, decodeHandles, decodeParameters, encodeParameters } from '../../tpm/command.js';
import { TPM_CC } from '../../tpm/constants/index.js';
import { authorizationArea, errorResponse, frameCode, hasAuthorizations, openCommand } from '../../tpm/frame.js';
import type { Reader } from '../../tpm/wire.js';
import { type Entity, entityName, resolveEntity } from './entity.js';
import { takeVolatile } from '../persistence/snapshot.js';
import { NotDurable } from '../state/durable.js';
import type { Tpm } from '../tpm.js';
import { assemble, associate, authorize, decryptParameters, parseSessions, requireNoAuthorization } from './authorization.js';
import type { AuthorizedCommand } from './authorized-command.js';
import { Call } from './call.js';
import type { AnyHandler, ServedCommands } from './handler.js';
import { successResponse } from './response.js';

/**
 * Commands that the specification lets write, but that rarely do, and then before they change anything else: the state before them is
 * taken only then. An extend must cost no copy of the whole state.
 */
const writesFirst: ReadonlySet<number> = new Set([TPM_CC.PCR_Extend, TPM_CC.PCR_Event, TPM_CC.PCR_Reset]);

/** Volatile state of a moment, and when that was by the monotonic clock (ns). */
export interface VolatileMoment {
  readonly state: Buffer;
  readonly at: bigint;
}

function takeMoment(tpm: Tpm): VolatileMoment {
  return { state: takeVolatile(tpm), at: process.hrtime.bigint() };
}

/** Is told what happens, to count and to log. */
export interface DispatchObserver {
  /** A command begins to execute. `name` is undefined if its code is not served. */
  begin(name: string | undefined): void;
  /** Something failed that is not the guest's doing. */
  failed(what: string, error: unknown): void;
  /** Changes are about to become durable; then `response` is given. What it throws, {@link Dispatcher.execute} rejects with; nothing is durable then. */
  committing?(response: Buffer): void;
  /** Changes became durable. */
  committed(): void;
}

interface Header {
  readonly command: Command;
  readonly handler: AnyHandler;
  readonly withSessions: boolean;
  readonly reader: Reader;
}

/** Runs commands: everything that commands have in common is done here, the rest by a short handler. */
export class Dispatcher {
  private readonly tpm: Tpm;
  private readonly served: ServedCommands;
  private readonly observer: DispatchObserver;
  private readonly keepsBefore: boolean;
  private taken: VolatileMoment | undefined;

  /** @param keepsBefore whether {@link before} is needed: a copy of the volatile state is made for it before every command that may write */
  constructor(tpm: Tpm, served: ServedCommands, observer: DispatchObserver, keepsBefore = true) {
    this.tpm = tpm;
    this.served = served;
    this.observer = observer;
    this.keepsBefore = keepsBefore;
  }

  /**
   * Executes one command frame and gives the response frame. What the command changed of the non-volatile state is durable when
   * this resolves. Rejects with {@link NotDurable} if that could not be done: then the caller goes back to {@link before}.
   * Calls must not overlap.
   */
  async execute(frame: Buffer, locality: number): Promise<Buffer> {
    const { tpm } = this;
    if (tpm.power.failed) return errorResponse(TPM_RC.FAILURE);
    this.forgetBefore();
    const response = await this.respond(Buffer.from(frame), locality);
    if (tpm.durable.dirty) {
      if (tpm.clock.due) tpm.clock.changed();
      this.observer.committing?.(response);
      await tpm.durable.commit();
      this.observer.committed();
    } else if (tpm.clock.due) {
      await this.storeClock();
    }
    this.forgetBefore();
    return response;
  }

  /** The volatile state as it was before the command that {@link execute} rejected. The bytes are secret, and the caller's. */
  before(): VolatileMoment {
    // A command that was not expected to write has failed, and changed nothing else.
    const moment = this.taken ?? takeMoment(this.tpm);
    this.taken = undefined;
    return moment;
  }

  private forgetBefore(): void {
    this.taken?.state.fill(0);
    this.taken = undefined;
  }

  /** No command waits for Clock to be stored, so none fails for it. */
  private async storeClock(): Promise<void> {
    const { clock, durable } = this.tpm;
    clock.changed();
    try {
      await durable.commit();
    } catch (error) {
      if (!(error instanceof NotDurable)) throw error;
      clock.notStored();
    }
  }

  private async respond(frame: Buffer, locality: number): Promise<Buffer> {
    let name: string | undefined;
    try {
      const header = this.parseHeader(frame);
      name = header.command.name;
      this.observer.begin(name);
      if (this.keepsBefore && writesFirst.has(header.command.code)) this.takeBeforeChange();
      else if (this.keepsBefore && this.mayWrite(header)) this.taken = takeMoment(this.tpm);
      return await this.run(header, locality);
    } catch (error) {
      if (error instanceof TpmError) return errorResponse(error.code);
      this.observer.failed(`command ${name ?? 'unknown'}`, error);
      return errorResponse(TPM_RC.FAILURE);
    } finally {
      this.tpm.durable.beforeChange = undefined;
    }
  }

  private takeBeforeChange(): void {
    this.tpm.durable.beforeChange = (): void => {
      this.taken ??= takeMoment(this.tpm);
    };
  }

  /** Whether a command that succeeds may leave something to be made durable: its own doing, or the first of its kind since startup or shutdown. */
  private mayWrite({ command, withSessions }: Header): boolean {
    const { power, commandAudit } = this.tpm;
    return command.nv || power.orderly || power.saved !== null || (withSessions && !power.daUsed) || commandAudit.isAudited(command.code);
  }

  private parseHeader(frame: Buffer): Header {
    const reader = openCommand(frame);
    const code = frameCode(frame);
    const found = this.served.get(code);
    if (found === undefined) {
      this.observer.begin(undefined);
      throw new TpmError(TPM_RC.COMMAND_CODE);
    }
    if (this.tpm.power.started === (code === TPM_CC.Startup)) throw new TpmError(TPM_RC.INITIALIZE);
    return { ...found, withSessions: hasAuthorizations(frame), reader };
  }

  private async run({ command, handler, withSessions, reader }: Header, locality: number): Promise<Buffer> {
    const { tpm } = this;
    const handles = decodeHandles(command, reader);
    const entities = handles.map((handle, i) => this.resolve(handle, i, command.code));
    const call = this.authorize(command, entities, withSessions, reader, locality);
    const request = decodeParameters(command, decryptParameters(tpm, call), tpm.bufferSize);
    command.handleList.forEach(([name], i) => (request[name] = handles[i]));
    const context = new Call<string, string>(command, locality, entities, call.sessions, this.served);
    const result = ((await handler(tpm, request as never, context)) ?? {}) as Record<string, unknown>;
    const { outHandleName } = command;
    const outHandle = outHandleName === undefined ? undefined : (result[outHandleName] as number);
    const response = successResponse(tpm, call, outHandle, encodeParameters(command.outList, result));
    context.finish();
    return response;
  }

  private resolve(handle: number, position: number, commandCode: number): Entity {
    try {
      return resolveEntity(this.tpm, handle, commandCode);
    } catch (error) {
      if (!(error instanceof TpmError)) throw error;
      throw new TpmError(error.code === TPM_RC.REFERENCE_H0 ? error.code + position : atHandle(error.code, position + 1));
    }
  }

  private authorize(
    command: Command,
    entities: readonly Entity[],
    withSessions: boolean,
    reader: Reader,
    locality: number,
  ): AuthorizedCommand {
    const { tpm } = this;
    const names = entities.map((entity) => entityName(tpm, entity));
    const parts = { command, entities, names, locality };
    if (!withSessions) {
      requireNoAuthorization(command);
      return assemble({ ...parts, sessions: [], parameters: reader.view(reader.remaining) });
    }
    const area = authorizationArea(reader);
    if (command.noSessions) throw new TpmError(TPM_RC.AUTH_CONTEXT);
    const sessions = parseSessions(tpm, command, area);
    associate(command, entities, sessions);
    const call = assemble({ ...parts, sessions, parameters: reader.view(reader.remaining) });
    authorize(tpm, call);
    return call;
  }
}
