// One step of a sequence: data from which each side makes its own bytes.
import { TPM_SE, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import type { AnyCommand } from '../support/frames.js';
import { show, type Symbolic } from './symbols.js';

/** How one session is used in one command. */
export interface Use {
  /** Symbol of the session; undefined for a password. */
  readonly session?: string;
  /** authValue of the entity, or the password. */
  readonly auth: Buffer;
  /** authValue of the entity after the command, where the command changes it. */
  readonly newAuth?: Buffer;
  readonly attributes: number;
  /** The entity is the one that the session is bound to. */
  readonly isBound?: boolean;
  /** A policy session without PolicyAuthValue. */
  readonly withoutAuth?: boolean;
  /** A policy session after PolicyPassword. */
  readonly asPassword?: boolean;
  /** The authorization is broken by one bit. */
  readonly broken?: boolean;
}

/** What StartAuthSession made: how the caller gets at the session key. */
export interface SessionStart {
  readonly sessionType: TPM_SE;
  readonly authHash: number;
  readonly symmetric: { readonly algorithm: number; readonly keyBits: number | null };
  /** Symbol of the key that the salt is for; the salt itself is `salt` where the key is symmetric. */
  readonly saltKey?: string;
  readonly bindAuth?: Buffer;
}

/** A change of the parameter area after encoding, before it is authorized. */
export type Mutation =
  | { readonly kind: 'truncate'; readonly bytes: number }
  | { readonly kind: 'append'; readonly bytes: Buffer }
  | { readonly kind: 'flip'; readonly at: number; readonly bit: number }
  | { readonly kind: 'replace'; readonly bytes: Buffer };

/** A change of the whole frame after it is authorized, never none; its size stays true. */
export type FrameMutation =
  | { readonly kind: 'tag'; readonly value: number }
  | { readonly kind: 'code'; readonly xor: number }
  | { readonly kind: 'authorizationSize'; readonly add: number }
  | { readonly kind: 'cut'; readonly bytes: number };

/** A command to both TPMs. */
export interface CommandStep {
  readonly kind: 'command';
  readonly command: AnyCommand;
  /** Handles and parameters by name, with symbols. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly uses: readonly Use[];
  readonly locality: number;
  /** Under which symbol the response is remembered, and whose Name and public area it has if the response has none. */
  readonly save?: { readonly symbol: string; readonly inherit?: string; readonly handle?: number };
  readonly start?: SessionStart;
  readonly mutation?: Mutation;
  readonly frameMutation?: FrameMutation;
  /** The outputs do not depend on anything that the TPMs have drawn at random. */
  readonly deterministic: boolean;
}

/** Power is cut and comes back, on both. */
interface PowerStep {
  readonly kind: 'power';
}

export type Step = CommandStep | PowerStep;

const attributeNames = Object.entries(TPMA_SESSION);

function showUse(use: Use): string {
  const flags = [
    ...attributeNames.filter(([, mask]) => (use.attributes & mask) !== 0).map(([name]) => name),
    ...(use.isBound === true ? ['bound'] : []),
    ...(use.withoutAuth === true ? ['withoutAuth'] : []),
    ...(use.asPassword === true ? ['asPassword'] : []),
    ...(use.broken === true ? ['broken'] : []),
  ];
  const newAuth = use.newAuth === undefined ? '' : ` newAuth=${show(use.newAuth)}`;
  return `${use.session ?? 'password'} auth=${show(use.auth)}${newAuth}${flags.length > 0 ? ` (${flags.join(' ')})` : ''}`;
}

/** A step as a line for people. */
export function showStep(step: Step): string {
  if (step.kind === 'power') return 'power cycle';
  const parts = [
    step.save === undefined ? '' : `${step.save.symbol} = `,
    step.command.name,
    ` ${show(step.values)}`,
    step.uses.length > 0 ? ` with ${step.uses.map(showUse).join('; ')}` : '',
    step.locality === 0 ? '' : ` at locality ${step.locality.toString()}`,
    step.mutation === undefined ? '' : ` mutated: ${show(step.mutation)}`,
    step.frameMutation === undefined ? '' : ` frame mutated: ${show(step.frameMutation)}`,
  ];
  return parts.join('');
}

/** A handle or its symbol. */
export type HandleValue = number | Symbolic<number>;
