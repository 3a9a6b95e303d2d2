// What two responses to one step must have in common.
import { describeResponseCode, TPM_RC } from '../../src/tpm/response-code.js';
import type { Answer } from './side.js';
import type { CommandStep } from './step.js';
import { show } from './symbols.js';

/** One thing in which two responses differ. */
export interface Difference {
  /** What it is about, e.g. `code` or `outPublic.unique`. */
  readonly path: string;
  readonly ours: unknown;
  readonly theirs: unknown;
}

/** What a rule may look at besides the two values. */
interface Context {
  readonly step: CommandStep;
}

/** Compares the values of one field. */
export type Rule = (path: string, ours: unknown, theirs: unknown, context: Context) => Difference[];

const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  value !== null && typeof value === 'object' && !Buffer.isBuffer(value) && !Array.isArray(value);

/** The same value. */
export const same: Rule = (path, ours, theirs, context) => {
  if (Buffer.isBuffer(ours) && Buffer.isBuffer(theirs)) return ours.equals(theirs) ? [] : [{ path, ours, theirs }];
  if (Array.isArray(ours) && Array.isArray(theirs)) {
    if (ours.length !== theirs.length) return [{ path, ours, theirs }];
    return ours.flatMap((value, i) => same(`${path}[${i.toString()}]`, value, theirs[i], context));
  }
  if (isPlain(ours) && isPlain(theirs)) return fields({})(path, ours, theirs, context);
  return ours === theirs ? [] : [{ path, ours, theirs }];
};

/** Drawn at random or made of what was: only the size is the same. */
export const sameSize: Rule = (path, ours, theirs) => {
  const [a, b] = [ours, theirs].map((value) => (Buffer.isBuffer(value) ? value.length : undefined));
  return a === b && a !== undefined ? [] : [{ path: `${path}.length`, ours: a, theirs: b }];
};

/** Nothing in common. */
export const anything: Rule = () => [];

/** A Name: the algorithm (or handle) and the size are the same. */
export const nameRule: Rule = (path, ours, theirs, context) => {
  const sizes = sameSize(path, ours, theirs, context);
  if (sizes.length > 0 || !Buffer.isBuffer(ours) || !Buffer.isBuffer(theirs)) return sizes;
  return same(`${path}.alg`, ours.subarray(0, 2), theirs.subarray(0, 2), context);
};

/** A structure, field by field: {@link same} for those that have no rule. */
export function fields(rules: Readonly<Record<string, Rule>>): Rule {
  return (path, ours, theirs, context) => {
    if (!isPlain(ours) || !isPlain(theirs)) return same(path, ours, theirs, context);
    const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
    return [...names].flatMap((name) => (rules[name] ?? same)(path === '' ? name : `${path}.${name}`, ours[name], theirs[name], context));
  };
}

/** `rule`, but {@link same} if nothing in the step depends on what the TPMs have drawn. */
export function unlessDeterministic(rule: Rule): Rule {
  return (path, ours, theirs, context) => (context.step.deterministic ? same : rule)(path, ours, theirs, context);
}

/** Where both are bytes of a structure: as the structure. */
export function decoded(decode: (bytes: Buffer) => unknown, rule: Rule): Rule {
  return (path, ours, theirs, context) => {
    if (!Buffer.isBuffer(ours) || !Buffer.isBuffer(theirs)) return same(path, ours, theirs, context);
    const [a, b] = [attempt(decode, ours), attempt(decode, theirs)];
    // What a session encrypted with another key than the caller's makes no sense to either.
    return a === undefined || b === undefined ? sameSize(path, ours, theirs, context) : rule(path, a, b, context);
  };
}

function attempt(decode: (bytes: Buffer) => unknown, bytes: Buffer): unknown {
  try {
    return decode(bytes);
  } catch {
    return undefined;
  }
}

/** Every difference between two responses, by the rules of the command's outputs. */
export function compare(step: CommandStep, ours: Answer, theirs: Answer, rules: Readonly<Record<string, Rule>>): Difference[] {
  const context = { step };
  if (ours.code !== theirs.code) return [{ path: 'code', ours: codeName(ours.code), theirs: codeName(theirs.code) }];
  if (ours.code !== TPM_RC.SUCCESS) return same('response', ours.bytes, theirs.bytes, context);
  return [
    ...same('tag', ours.tag, theirs.tag, context),
    ...same('handle', ours.handle, theirs.handle, context),
    ...same('sessions', ours.sessions, theirs.sessions, context),
    ...fields({ ...rules, ...(step.command.outHandleName !== undefined && { [step.command.outHandleName]: anything }) })(
      '',
      ours.out,
      theirs.out,
      context,
    ),
  ];
}

function codeName(code: number): string {
  return code === TPM_RC.SUCCESS ? 'success' : describeResponseCode(code);
}

/** A difference as a line for people. */
export function showDifference({ path, ours, theirs }: Difference): string {
  const value = (of: unknown): string => (typeof of === 'string' ? of : show(of));
  return `${path}: ours ${value(ours)}, swtpm's ${value(theirs)}`;
}
