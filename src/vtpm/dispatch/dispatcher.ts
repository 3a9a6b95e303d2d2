// TPM 2.0 Library Part 3, 5: command processing.
import { atHandle, TPM_RC, TpmError } from '../../tpm/response-code.js';
import { type Command, decodeHandles, decodeParameters, encodeParameters } from '../../tpm/command.js';
import { TPM_CC } from '../../tpm/constants/index.js';
import { authorizationArea, errorResponse, frameCode, hasAuthorizations, openCommand } from '../../tpm/frame.js';
import type { Reader } from '../../tpm/wire.js';
import { type Entity, entityName, resolveEntity } from './entity.js';
import type { Transaction } from '../persistence/transaction.js';
import type { Tpm } from '../tpm.js';
import { assemble, associate, authorize, decryptParameters, parseSessions, requireNoAuthorization } from './authorization.js';
import type { AuthorizedCommand } from './authorized-command.js';
import { Call } from './call.js';
import type { AnyHandler, ServedCommands } from './handler.js';
import { successResponse } from './response.js';

/** Is told what happens, to count and to log. */
export interface DispatchObserver {
  /** A command begins to execute. `name` is undefined if its code is not served. */
  begin(name: string | undefined): void;
  /** Something failed that is not the guest's doing. */
  failed(what: string, error: unknown): void;
}

interface Header {
  readonly command: Command;
  readonly handler: AnyHandler;
  readonly withSessions: boolean;
  readonly reader: Reader;
}

/** Runs commands: everything that commands have in common is done here, the rest by a short handler. */
export class Dispatcher {
  constructor(
    private readonly tpm: Tpm,
    private readonly served: ServedCommands,
    private readonly observer: DispatchObserver,
  ) {}

  /**
   * Executes one command frame and gives the response frame, as part of a transaction that is committed then. Rejects as
   * {@link Transaction.commit} does: then it is to be undone. Calls must not overlap.
   */
  async execute(frame: Buffer, locality: number, transaction: Transaction): Promise<Buffer> {
    if (this.tpm.power.failed) return errorResponse(TPM_RC.FAILURE);
    const response = await this.respond(Buffer.from(frame), locality);
    await transaction.commit(response);
    return response;
  }

  private async respond(frame: Buffer, locality: number): Promise<Buffer> {
    let name: string | undefined;
    try {
      const header = this.parseHeader(frame);
      name = header.command.name;
      this.observer.begin(name);
      return await this.run(header, locality);
    } catch (error) {
      if (error instanceof TpmError) return errorResponse(error.code);
      this.observer.failed(`command ${name ?? 'unknown'}`, error);
      return errorResponse(TPM_RC.FAILURE);
    }
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
