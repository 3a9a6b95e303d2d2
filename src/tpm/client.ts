// TPM 2.0 Library Part 1, 18: the caller's side of commands, whatever takes the frames: the chip, a guest's TPM, a test.
import { decodeResponseParameters, encodeParameters, type AnyCommand, type Command, type Request, type Response } from './command.js';
import { TPM_RC, baseCode } from './response-code.js';
import { TPM_RS } from './constants/index.js';
import { decodeResponse, encodeCommand, responseCode } from './frame.js';
import { CommandRefused, ResponseForged } from './response-error.js';
import type { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from './structures/index.js';

const EMPTY = Buffer.alloc(0);

/** Sends a command frame and gives the response frame. */
export type Transceive = (frame: Buffer) => Promise<Buffer>;

/** Handles and parameters of a command by name, whatever the command. */
export type Values = Readonly<Record<string, unknown>>;

/** The authorizations of a command. They may encrypt the first of its encoded parameters in place. */
type Authorize = (handles: readonly number[], parameters: Buffer) => readonly TPMS_AUTH_COMMAND[];

/** Checks the authorizations of a response. It may decrypt the first of its parameters in place; throws if they are not right. */
type AcceptResponse = (authorizations: readonly TPMS_AUTH_RESPONSE[], parameters: Buffer) => void;

/** A password authorization (Part 1, 19.4); in clear on its way. */
export function password(auth: Buffer = EMPTY): TPMS_AUTH_COMMAND {
  return { sessionHandle: TPM_RS.PW, nonce: EMPTY, sessionAttributes: 0, hmac: auth };
}

/** An empty password for each handle that needs an authorization. */
export function emptyPasswords(of: Command): TPMS_AUTH_COMMAND[] {
  return of.handleList.filter(([, { role }]) => role !== undefined).map(() => password());
}

/** The values of a command's handles, in order. */
export function handlesOf(of: Command, values: Values): number[] {
  return of.handleList.map(([name]) => values[name] as number);
}

/** The frame of a command. The encoded parameters are zeroized: only the frame holds them. */
export function requestFrame(of: Command, values: Values, authorize: Authorize): Buffer {
  const handles = handlesOf(of, values);
  const parameters = encodeParameters(of.inList, values);
  try {
    const authorizations = authorize(handles, parameters);
    return encodeCommand(of.code, handles, authorizations, parameters);
  } finally {
    parameters.fill(0);
  }
}

/**
 * Handle and parameters of a successful response by name; byte strings are views into `frame`.
 * @param sessions authorizations that the command had, and so the response must have
 * @throws {ResponseForged} if the frame does not have the form of a response to this command
 */
export function readResponse<C extends AnyCommand>(of: C, frame: Buffer, sessions: number, accept?: AcceptResponse): Response<C> {
  const { handle, parameters, authorizations } = decodeResponse(of.name, frame, of.outHandleName !== undefined, sessions);
  accept?.(authorizations, parameters);
  return namedResponse(of, handle, parameters);
}

/** Handle and parameter area of a response by name. Throws {@link ResponseForged} if the area is not this command's. */
export function namedResponse<C extends AnyCommand>(of: C, handle: number | undefined, parameters: Buffer): Response<C> {
  try {
    const values = decodeResponseParameters(of, parameters);
    if (of.outHandleName !== undefined) values[of.outHandleName] = handle;
    return values as Response<C>;
  } catch (error) {
    throw new ResponseForged(of.name, error instanceof Error ? error.message : String(error));
  }
}

/** How often a command is sent again that the TPM has no time for, and how many milliseconds later each time. */
export interface Retries {
  readonly times: number;
  readonly milliseconds: number;
}

/** Runs commands by their declarations, one at a time. */
export class TpmClient {
  /** @param retries for `TPM_RC_RETRY` and `TPM_RC_YIELDED`; none if it is left out */
  constructor(
    private readonly transceive: Transceive,
    private readonly retries: Retries = { times: 0, milliseconds: 0 },
  ) {}

  /**
   * Executes a command. Byte strings in the result are views of memory that is this response's alone.
   * Rejects with {@link CommandRefused} if the TPM refuses, {@link ResponseForged} if what it answers is no response to this
   * command, and as the connection does.
   */
  async execute<C extends AnyCommand>(
    of: C,
    request: Request<C>,
    authorizations: readonly TPMS_AUTH_COMMAND[] = emptyPasswords(of),
  ): Promise<Response<C>> {
    const frame = requestFrame(of, request, () => authorizations);
    try {
      return readResponse(of, await this.answer(of.name, frame), authorizations.length);
    } finally {
      frame.fill(0);
    }
  }

  private async answer(command: string, frame: Buffer): Promise<Buffer> {
    for (let tries = 0; ; tries++) {
      const response = await this.transceive(frame);
      const code = responseCode(command, response);
      if (code === TPM_RC.SUCCESS) return response;
      const base = baseCode(code);
      if ((base !== TPM_RC.RETRY && base !== TPM_RC.YIELDED) || tries >= this.retries.times) throw new CommandRefused(command, code);
      await new Promise((resolve) => setTimeout(resolve, this.retries.milliseconds));
    }
  }
}
