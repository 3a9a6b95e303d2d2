import type { Command, Request, Response } from '../../tpm/command.js';
import type * as Commands from '../../tpm/commands/index.js';
import type { Tpm } from '../tpm.js';
import type { Call, HandleName, ParameterName } from './call.js';

/** What a handler returns: the response's handle and parameters by name; nothing if the response has none. */
type Result<C> = keyof Response<C> extends never ? void : Response<C>;

/**
 * Does what is special to one command. By then handles are resolved, the command is authorized and its parameters decoded.
 * It throws a `TpmError`, placed with {@link Call.error} or {@link Call.at}, before it changes anything.
 */
export type Handler<C> = (tpm: Tpm, request: Request<C>, call: Call<HandleName<C>, ParameterName<C>>) => Result<C> | Promise<Result<C>>;

type Module = typeof Commands;
type CommandName = { [N in keyof Module]: Module[N] extends { readonly handleList: unknown } ? N : never }[keyof Module];

/** The handlers of all commands by name; `unsupported` answers `TPM_RC_COMMAND_CODE` and is not listed by GetCapability. */
export type Handlers = { readonly [N in CommandName]: Handler<Module[N]> | 'unsupported' };

/** A handler without its types, as the dispatcher calls it. */
export type AnyHandler = (tpm: Tpm, request: never, call: Call<string, string>) => unknown;

/** Declarations and handlers of the commands that are served, by command code. */
export type ServedCommands = ReadonlyMap<number, { readonly command: Command; readonly handler: AnyHandler }>;
