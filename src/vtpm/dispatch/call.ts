import type { Command } from '../../tpm/command.js';
import { atHandle, atParameter, TPM_RC, TpmError } from '../../tpm/response-code.js';
import type { Entity } from './entity.js';
import type { Sequence } from '../sequences/sequence.js';
import type { Hierarchy } from '../state/hierarchies.js';
import type { NvIndex } from '../state/nv.js';
import type { TpmObject } from '../state/object.js';
import type { Session } from '../state/session.js';
import type { SessionUse } from './authorized-command.js';

/** Names of a command's handles. */
export type HandleName<C> = C extends Command<infer H, infer _I, infer _O, infer _R> ? Extract<keyof H, string> : never;
/** Names of a command's parameters. */
export type ParameterName<C> = C extends Command<infer _H, infer I, infer _O, infer _R> ? Extract<keyof I, string> : never;

/**
 * One command on its way through the TPM, as its handler sees it besides handles and parameters. `H` and `P` are the names of the handles and
 * parameters that may be asked for: who needs some of them takes the call of any command that has these.
 */
export class Call<in H extends string = never, in P extends string = never> {
  readonly command: Command;
  /** Locality that the command came from, 0 to 4. */
  readonly locality: number;
  /** What the handles stand for, in their order. */
  readonly entities: readonly Entity[];
  /** The sessions of the command, in their order. */
  readonly sessions: readonly SessionUse[];
  /** All commands that the TPM serves, by code. */
  readonly served: ReadonlyMap<number, { readonly command: Command }>;
  private readonly deferred: (() => void)[] = [];

  constructor(
    command: Command,
    locality: number,
    entities: readonly Entity[],
    sessions: readonly SessionUse[],
    served: ReadonlyMap<number, { readonly command: Command }>,
  ) {
    this.command = command;
    this.locality = locality;
    this.entities = entities;
    this.sessions = sessions;
    this.served = served;
  }

  /** Has `action` done after the response is made, whose HMACs may need an authValue that the action takes away. */
  afterwards(action: () => void): void {
    this.deferred.push(action);
  }

  /** Does what {@link afterwards} was given. */
  finish(): void {
    for (const action of this.deferred) action();
  }

  /** An error with the number of the handle or parameter called `where`, if given. */
  error(code: number, where?: H | P): TpmError {
    return new TpmError(where === undefined ? code : this.place(code, where));
  }

  /** Runs `action`; the number of the handle or parameter called `where` is added to a bare code that it throws. */
  at<T>(where: H | P, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.placed(error, where);
    }
  }

  /** As {@link at}, for an action that takes time. */
  async atAsync<T>(where: H | P, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw this.placed(error, where);
    }
  }

  /** The object that the handle called `where` stands for. `code` if it is a sequence, which is an object of no type. */
  object(where: H, code: number = TPM_RC.HANDLE): TpmObject {
    const entity = this.entity(where);
    if (entity.kind !== 'object') throw this.error(entity.kind === 'sequence' ? code : TPM_RC.HANDLE, where);
    return entity.object;
  }

  /** The sequence that the handle called `where` stands for. `TPM_RC_MODE` if it stands for something else. */
  sequence(where: H): Sequence {
    const entity = this.entity(where);
    if (entity.kind !== 'sequence') throw this.error(TPM_RC.MODE, where);
    return entity.sequence;
  }

  /** The session that the handle called `where` stands for. `TPM_RC_VALUE` if it stands for something else. */
  session(where: H): Session {
    const entity = this.entity(where);
    if (entity.kind !== 'session') throw this.error(TPM_RC.VALUE, where);
    return entity.session;
  }

  /** The NV index that the handle called `where` stands for. `TPM_RC_VALUE` if it stands for something else. */
  nvIndex(where: H): NvIndex {
    const entity = this.entity(where);
    if (entity.kind !== 'nv') throw this.error(TPM_RC.VALUE, where);
    return entity.index;
  }

  /** The hierarchy that the handle called `where` stands for. `TPM_RC_VALUE` if it stands for something else. */
  hierarchy(where: H): Hierarchy {
    const entity = this.entity(where);
    if (entity.kind !== 'hierarchy') throw this.error(TPM_RC.VALUE, where);
    return entity.hierarchy;
  }

  /** The entity of the handle called `where`. */
  entity(where: H): Entity {
    const position = this.command.handleList.findIndex(([name]) => name === where);
    const entity = this.entities[position];
    if (entity === undefined) throw new Error(`${this.command.name} has no handle ${where}`);
    return entity;
  }

  private placed(error: unknown, where: string): unknown {
    return error instanceof TpmError ? new TpmError(this.place(error.code, where)) : error;
  }

  private place(code: number, where: string): number {
    const handle = this.command.handleList.findIndex(([name]) => name === where);
    if (handle >= 0) return atHandle(code, handle + 1);
    const parameter = this.command.inList.findIndex(([name]) => name === where);
    if (parameter < 0) throw new Error(`${this.command.name} has no handle or parameter ${where}`);
    return atParameter(code, parameter + 1);
  }
}
