// The policies of a host's guests: the classes that they share, and what a guest's own policy comes to.
import { limitsOf, type LimitSection, type Limits } from '../../config/limits.js';
import { EXIT, Failure } from '../../failure.js';
import { GuestPolicy } from '../../policy/guest-policy.js';
import { PolicyClasses } from '../../policy/policy-classes.js';
import { policyChanges, type PolicyChange } from '../../policy/policy-changes.js';
import { parsePolicy, POLICY_VERSION } from '../../policy/policy-file.js';
import type { GuestMeta } from '../../store/guest-meta.js';
import type { Logger } from '../../logger.js';

/** What {@link PolicyService.open} needs. */
export interface PolicyServiceOptions {
  /** Directory of the classes. */
  readonly directory: string;
  /** Class of guests that are created without a policy. */
  readonly defaultClass: string | undefined;
  /** Limits of guests whose policies say nothing of them. */
  readonly limits: LimitSection;
  /** Providers of guests without any policy. */
  readonly providers: readonly string[];
  readonly log: Logger;
}

/** A guest's policy as it is to be stored and used. */
export interface PreparedPolicy {
  readonly policy: GuestPolicy;
  readonly meta: GuestMeta;
  /** What it changes for the guest. */
  readonly changes: readonly PolicyChange[];
}

/** The policies of one host. */
export class PolicyService {
  private constructor(
    private readonly options: PolicyServiceOptions,
    private classes: PolicyClasses,
  ) {}

  /** Reads the classes. Rejects with a {@link Failure} if their directory cannot be read. */
  static async open(options: PolicyServiceOptions): Promise<PolicyService> {
    const service = new PolicyService(options, await PolicyClasses.read(options.directory));
    service.tellProblems();
    return service;
  }

  /** Reads the classes again. What cannot be read leaves all as it was. */
  async reload(): Promise<void> {
    this.classes = await PolicyClasses.read(this.options.directory);
    this.tellProblems();
  }

  get classNames(): readonly string[] {
    return this.classes.names;
  }

  get problems(): readonly Failure[] {
    return this.classes.problems;
  }

  /** Text of the policy of a guest that is created without one: that of the default class; null if there is none. */
  get defaultText(): string | null {
    const { defaultClass } = this.options;
    return defaultClass === undefined ? null : `version: ${POLICY_VERSION.toString()}\nclass: ${defaultClass}\n`;
  }

  /** What a policy comes to; null is none. Throws a {@link Failure}. */
  resolve(text: string | null, path: string): GuestPolicy {
    if (text === null) return new GuestPolicy({ version: POLICY_VERSION, providers: [...this.options.providers] }, path);
    return this.classes.resolve(parsePolicy(path, text), path);
  }

  /**
   * What a guest's policy comes to, and what that changes. Throws a {@link Failure} if the policy cannot be used, or if it would change
   * what cannot be changed any more.
   * @param text of the policy; default what the guest has
   */
  prepare(meta: GuestMeta, text: string | null = meta.policy): PreparedPolicy {
    const path = `of guest ${meta.name}`;
    const policy = this.resolve(text, path);
    const before = this.inForce(meta);
    const changes = policyChanges(before, policy);
    const [fixed] = changes.filter(({ effect }) => effect === 'never');
    if (fixed !== undefined) throw unchangeable(meta.name, fixed);
    return { policy, meta: { ...meta, policy: text, policyInForce: JSON.stringify(policy.settings) }, changes };
  }

  /** The policy that a guest had last. */
  inForce({ name, policyInForce }: GuestMeta): GuestPolicy {
    if (policyInForce === undefined) return this.resolve(null, `of guest ${name}`);
    const path = `of guest ${name}, as it was last`;
    return new GuestPolicy(parsePolicy(path, policyInForce), path);
  }

  /** All limits of a guest with this policy. */
  limitsFor(policy: GuestPolicy): Limits {
    return limitsOf(policy.limits, this.options.limits);
  }

  private tellProblems(): void {
    for (const { what, why } of this.classes.problems) this.options.log.warn('a policy class is passed over', { what, why });
    const { defaultClass, log, directory } = this.options;
    if (defaultClass === undefined || this.classNames.includes(defaultClass)) return;
    log.warn('the default policy class cannot be used: guests are not created without a policy', { class: defaultClass, directory });
  }
}

function unchangeable(guest: string, { path, from, to }: PolicyChange): Failure {
  return new Failure({
    code: 'policy_fixed',
    what: `the policy of guest ${guest}`,
    why: `${path} is ${JSON.stringify(from)} since the guest was created and cannot become ${JSON.stringify(to)}: its keys are where they are`,
    hint: `leave ${path} as it is, or create another guest`,
    exit: EXIT.refused,
  });
}
