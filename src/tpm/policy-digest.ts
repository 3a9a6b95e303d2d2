// TPM 2.0 Library Part 1, 19.7 and Part 3, 23: what the commands of a policy make of its digest.
import type { AnyCommand, Command } from './command.js';
import {
  PolicyAuthorize,
  PolicyAuthorizeNV,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyCpHash,
  PolicyDuplicationSelect,
  PolicyLocality,
  PolicyNameHash,
  PolicyNV,
  PolicyNvWritten,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicyPhysicalPresence,
  PolicySecret,
  PolicySigned,
  PolicyTemplate,
  Vendor_PolicyPCR,
} from './commands/index.js';
import { TPM_ALG } from './constants/index.js';
import { digestSize, hash } from './hash.js';
import { encode, type Infer } from './schema.js';
import { NO } from './structures/index.js';
import { uint32Bytes } from './wire.js';

/** What no digest depends on, and what the digest of PolicySigned and PolicySecret does not depend on, nor that of PolicyNV and its like. */
type NotHashed<H, I> =
  | 'policySession'
  | 'nonceTPM'
  | 'expiration'
  | 'auth'
  | 'approvedPolicy'
  | 'checkTicket'
  | ('expiration' extends keyof I ? 'cpHashA' : never)
  | ('nvIndex' extends keyof H ? 'authHandle' : never);

/**
 * What the digest depends on in a policy command: parameters by name, and for each handle the Name of what it stands for. A `pcrDigest` is
 * that of the values that are asked for, never empty.
 */
export type PolicyTerms<C> =
  C extends Command<infer H, infer I, infer _O, infer _R>
    ? { readonly [N in Exclude<keyof I, NotHashed<H, I>>]: Infer<I[N]> } & { readonly [N in Exclude<keyof H, NotHashed<H, I>>]: Uint8Array }
    : never;

/** How a command extends the digest. */
interface Rule<T> {
  /** Hashed after the old digest and the command code. */
  readonly parts: (terms: T, alg: number) => readonly Uint8Array[];
  /** Command code in the digest, if it is another command's. */
  readonly code?: number;
  /** The old digest is replaced by zeros: what was asserted is covered by the terms. */
  readonly restarts?: boolean;
  /** Extends in a second step, even if it is empty: `PolicyUpdate` (Part 3, 23.2.3). */
  readonly policyRef?: (terms: T) => Uint8Array;
}

type Entry = readonly [code: number, rule: Rule<never>];

function rule<C extends AnyCommand>(of: C, rule: Rule<PolicyTerms<C>>): Entry {
  return [of.code, rule];
}

/** Hashes all parameters as they are declared; digests without their sizes. */
function parametersOf(of: AnyCommand, code: number = of.code): Entry {
  const fields = of.inList;
  const parts = (terms: Readonly<Record<string, unknown>>): Uint8Array[] =>
    fields.map(([name, schema]) => (schema.shape.kind === 'bytes' ? (terms[name] as Uint8Array) : encode(schema, terms[name])));
  return [of.code, { parts, code }];
}

/** `args := H(operandB || offset || operation)`. */
function comparison(terms: PolicyTerms<typeof PolicyCounterTimer>, alg: number): Buffer {
  const { offset, operation } = PolicyCounterTimer.in;
  return hash(alg, terms.operandB, encode(offset, terms.offset), encode(operation, terms.operation));
}

const policyRef = (terms: { readonly policyRef: Uint8Array }): Uint8Array => terms.policyRef;

const rules: ReadonlyMap<number, Rule<never>> = new Map([
  rule(PolicySigned, { parts: ({ authObject }) => [authObject], policyRef }),
  rule(PolicySecret, { parts: ({ authHandle }) => [authHandle], policyRef }),
  rule(PolicyOR, { parts: ({ pHashList }) => pHashList, restarts: true }),
  rule(PolicyPCR, { parts: ({ pcrs, pcrDigest }) => [encode(PolicyPCR.in.pcrs, pcrs), pcrDigest] }),
  parametersOf(PolicyLocality),
  rule(PolicyNV, { parts: ({ nvIndex, ...terms }, alg) => [comparison(terms, alg), nvIndex] }),
  rule(PolicyCounterTimer, { parts: (terms, alg) => [comparison(terms, alg)] }),
  parametersOf(PolicyCommandCode),
  parametersOf(PolicyPhysicalPresence),
  parametersOf(PolicyCpHash),
  parametersOf(PolicyNameHash),
  rule(PolicyDuplicationSelect, {
    parts: ({ objectName, newParentName, includeObject }) => [
      ...(includeObject === NO ? [] : [objectName]),
      newParentName,
      Uint8Array.of(includeObject),
    ],
  }),
  rule(PolicyAuthorize, { parts: ({ keySign }) => [keySign], policyRef, restarts: true }),
  parametersOf(PolicyAuthValue),
  // So that one policy allows both.
  parametersOf(PolicyPassword, PolicyAuthValue.code),
  parametersOf(PolicyNvWritten),
  parametersOf(PolicyTemplate),
  rule(PolicyAuthorizeNV, { parts: ({ nvIndex }) => [nvIndex], restarts: true }),
  rule(Vendor_PolicyPCR, {
    parts: ({ provider, pcrs, pcrDigest }) => {
      const { in: fields } = Vendor_PolicyPCR;
      return [encode(fields.provider, provider), encode(fields.pcrs, pcrs), pcrDigest];
    },
  }),
]);

/**
 * The digest of a policy after one more command. PolicyTicket extends as the command does that gave the ticket.
 * @param alg hash algorithm of the policy
 * @param digest of the commands before; zeros if there are none
 */
export function extendPolicyDigest<C extends AnyCommand>(alg: number, digest: Uint8Array, of: C, terms: PolicyTerms<C>): Buffer {
  const rule = rules.get(of.code) as Rule<PolicyTerms<C>> | undefined;
  if (rule === undefined) throw new Error(`${of.name} does not extend a policy digest`);
  const old = rule.restarts === true ? Buffer.alloc(digestSize(alg)) : digest;
  const extended = hash(alg, old, uint32Bytes(rule.code ?? of.code), ...rule.parts(terms, alg));
  return rule.policyRef === undefined ? extended : hash(alg, extended, rule.policyRef(terms));
}

/** Policy commands, each with its terms. */
export type PolicySteps<C extends readonly AnyCommand[]> = readonly [...{ readonly [K in keyof C]: readonly [C[K], PolicyTerms<C[K]>] }];

/** The digest of a policy: what a trial session gives, e.g. `policyDigest([[PolicyAuthValue, {}], [PolicyCommandCode, { code }]])`. */
export function policyDigest<const C extends readonly AnyCommand[]>(steps: PolicySteps<C>, alg: number = TPM_ALG.SHA256): Buffer {
  let digest: Buffer = Buffer.alloc(digestSize(alg));
  for (const [of, terms] of steps) digest = extendPolicyDigest(alg, digest, of, terms);
  return digest;
}
