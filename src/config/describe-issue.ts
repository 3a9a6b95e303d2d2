// What is wrong with data from outside, in words that never repeat the data: it may be a secret that came there by mistake.
import * as v from 'valibot';

type Issue = v.BaseIssue<unknown>;

/** Longest name of a member that is repeated. */
const MAX_NAME = 40;

/** Where an issue is, e.g. `listen.tcp`; undefined if it is about the whole. */
export function placeOf(issue: Issue): string | undefined {
  const names = (issue.path ?? []).map(({ key }) => String(key));
  if (names.length === 0) return undefined;
  return names.map((name) => (name.length > MAX_NAME || !/^[\w.-]*$/.test(name) ? '…' : name)).join('.');
}

/** Whether an issue is that a member is not known. */
export function isUnknown({ type, expected }: Issue): boolean {
  return type === 'strict_object' && expected === 'never';
}

/** What is expected where an issue is, in a few words. */
export function expectation({ type, expected, requirement, message }: Issue): string {
  // A message of our own says what is expected; the library's repeat what was received.
  if (!message.startsWith('Invalid ')) return message;
  if (type === 'strict_object' && expected === 'never') return 'it is not known';
  // The library names a member that is missing.
  if ((type === 'strict_object' || type === 'object') && expected?.startsWith('"') === true) return 'it is missing';
  if (requirement instanceof RegExp && expected !== null) return `Expected text like ${requirement.toString()}`;
  if (type === 'parse_json') return 'Expected JSON';
  return expected === null || expected === '' ? `Expected ${type.replaceAll('_', ' ')}` : `Expected ${expected}`;
}

/** The first of a schema's issues as text: the place, or `whole` if there is none, and what is expected there. */
export function describeIssue([issue]: readonly [Issue, ...Issue[]], whole = 'it'): string {
  return `${placeOf(issue) ?? whole}: ${expectation(issue)}`;
}
