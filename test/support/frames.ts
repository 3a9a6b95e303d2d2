// Commands as bytes and responses as values, by the declarations in src/tpm/commands.
import assert from 'node:assert/strict';
import { emptyPasswords, handlesOf, namedResponse, password as passwordOf } from '../../src/tpm/client.js';
import type { AnyCommand, Request, Response } from '../../src/tpm/command.js';
import { encodeParameters } from '../../src/tpm/command.js';
import { decodeResponse, encodeCommand, frameCode, responseCode } from '../../src/tpm/frame.js';
import { baseCode, describeResponseCode, TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from '../../src/tpm/structures/index.js';

export type { AnyCommand } from '../../src/tpm/command.js';
export { emptyPasswords, handlesOf, namedResponse as decodeOut } from '../../src/tpm/client.js';

/** An empty buffer. */
export const none = Buffer.alloc(0);

/** A password authorization. */
export function password(auth: Buffer | string = none): TPMS_AUTH_COMMAND {
  return passwordOf(Buffer.from(auth));
}

/**
 * A command's frame. Without `sessions` every handle that needs it gets an empty password; with an empty list the tag is
 * `TPM_ST_NO_SESSIONS`.
 */
export function frame<C extends AnyCommand>(
  command: C,
  values: Request<C>,
  sessions: readonly TPMS_AUTH_COMMAND[] = emptyPasswords(command),
): Buffer {
  return rawFrame(command.code, handlesOf(command, values), encodeParameters(command.inList, values), sessions);
}

/** A frame of bytes of which nothing is checked. */
export function rawFrame(
  code: number,
  handles: readonly number[],
  parameters: Buffer,
  sessions: readonly TPMS_AUTH_COMMAND[] = [],
): Buffer {
  return encodeCommand(code, handles, sessions, parameters);
}

/** A response. `out` has handle and parameters by name if `code` is success. */
export interface Parsed<C> {
  readonly code: number;
  readonly out: Response<C> | undefined;
  /** The parameter area as it came. */
  readonly parameters: Buffer;
  readonly sessions: readonly TPMS_AUTH_RESPONSE[];
}

/** Bytes of a response by kind, without a look into the parameters. */
export function splitResponse(
  command: AnyCommand,
  response: Buffer,
): { code: number; handle: number | undefined; parameters: Buffer; sessions: readonly TPMS_AUTH_RESPONSE[] } {
  const code = responseCode(command.name, response);
  if (code !== TPM_RC.SUCCESS) {
    assert.equal(response.length, 10, 'an error is a bare header');
    return { code, handle: undefined, parameters: none, sessions: [] };
  }
  const { authorizations, ...rest } = decodeResponse(command.name, response, command.outHandleName !== undefined);
  return { code, ...rest, sessions: authorizations };
}

/** A response by its command's declaration. Parameters that a session has encrypted make no sense here: see sessions.ts. */
export function parse<C extends AnyCommand>(command: C, response: Buffer): Parsed<C> {
  const { code, handle, parameters, sessions } = splitResponse(command, response);
  return { code, out: code === TPM_RC.SUCCESS ? namedResponse(command, handle, parameters) : undefined, parameters, sessions };
}

/** What sends a frame to a TPM. */
export type Execute = (frame: Buffer, locality?: number) => Promise<Buffer>;

/** Sends a command and returns handle and parameters of the response; fails the test if it is not successful. */
export async function run<C extends AnyCommand>(
  execute: Execute,
  command: C,
  values: Request<C>,
  sessions?: readonly TPMS_AUTH_COMMAND[],
): Promise<Response<C>> {
  const { code, out } = parse(command, await execute(frame(command, values, sessions)));
  if (out === undefined) assert.fail(`${command.name}: ${describeResponseCode(code)}`);
  return out;
}

/** Response code of a frame. */
export function codeOf(response: Buffer): number {
  return frameCode(response);
}

/** Sends a command that must be refused with `code`: exactly, or bare if `code` has no number. */
export async function expectCode<C extends AnyCommand>(
  execute: Execute,
  code: number,
  command: C,
  values: Request<C>,
  sessions?: readonly TPMS_AUTH_COMMAND[],
): Promise<void> {
  const got = codeOf(await execute(frame(command, values, sessions)));
  const same = got === code || (baseCode(code) === code && baseCode(got) === code);
  assert.ok(same, `${command.name}: ${describeResponseCode(got)} instead of ${describeResponseCode(code)}`);
}
