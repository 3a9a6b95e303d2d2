// TPM 2.0 Library Part 1, 19: a command with its sessions.
import type { Command } from '../../tpm/command.js';
import type { Session } from '../state/session.js';
import type { Entity } from './entity.js';

/** One session of a command's authorization area. */
export interface SessionUse {
  /** Undefined for a password. */
  readonly session: Session | undefined;
  readonly handle: number;
  readonly nonceCaller: Buffer;
  /** TPMA_SESSION; the response's are made of them. */
  attributes: number;
  /** Password or HMAC. */
  readonly auth: Buffer;
  /** What the session authorizes; undefined if it serves audit or encryption only. */
  entity: Entity | undefined;
  /** The entity's authValue is part of the HMAC key. */
  includeAuth: boolean;
}

/** A command's sessions and what its digests are computed from. */
export interface AuthorizedCommand {
  readonly command: Command;
  readonly entities: readonly Entity[];
  readonly names: readonly Buffer[];
  readonly locality: number;
  readonly sessions: readonly SessionUse[];
  /** The parameter area as it came, possibly encrypted. */
  readonly parameters: Buffer;
  readonly decrypt: SessionUse | undefined;
  readonly encrypt: SessionUse | undefined;
  readonly audit: SessionUse | undefined;
  /** cpHash by algorithm, computed when first asked for. */
  readonly cpHash: (alg: number) => Buffer;
}
