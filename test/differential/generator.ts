// Makes steps: chooses what to do by chance, within what the model says is possible, or nearly.
import { HASH_ALGORITHMS, type HashAlgorithm, TPM_ALG, TPM_ST, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import { digestSize } from '../../src/tpm/hash.js';
import type { TPML_PCR_SELECTION } from '../../src/tpm/structures/index.js';
import { type AnyCommand, none } from '../support/frames.js';
import { Choices } from '../support/random-walk.js';
import { Entity, LoadedObject, Model, type Policy, type SessionModel } from './model.js';
import type { CommandStep, FrameMutation, Mutation, Step, Use } from './step.js';

/** What both TPMs said to a step. */
export interface Outcome {
  readonly ok: boolean;
  readonly code: number;
  /** Output parameters of ours. */
  readonly out: Readonly<Record<string, unknown>>;
}

/** There is no object for what a plan is about. */
export class NothingFits extends Error {}

/** Several steps that belong together, each made when the outcome of the one before is known. */
export type Plan = Generator<Step, void, Outcome>;
export type PlanMaker = (g: StepMaker) => Plan;
/** How often a plan is chosen, beside the others. */
export type WeightedPlan = readonly [weight: number, plan: PlanMaker];

/** What {@link StepMaker.command} takes besides the values. */
export interface CommandOptions {
  readonly save?: CommandStep['save'];
  readonly start?: CommandStep['start'];
  readonly locality?: number;
  readonly newAuth?: Buffer;
  readonly deterministic?: boolean;
  /** Policy session that authorizes the first handle. */
  readonly policy?: SessionModel;
  /** No sessions unless the command needs them. */
  readonly plain?: boolean;
  /** No mutation: what follows relies on what the command does. */
  readonly exact?: boolean;
}

const MAX_SESSIONS = 3;
/** The meaning of a change differs between the TPMs, with their blobs and handles, or the model would not know what is gone. */
const neverMutated = new Set([
  'Load',
  'ContextLoad',
  'Import',
  'Rewrap',
  'StartAuthSession',
  'ClockSet',
  'DictionaryAttackParameters',
  'FlushContext',
  'HierarchyControl',
]);

/** See the file's head. */
export class StepMaker {
  readonly model = new Model();
  readonly choose: Choices;
  private symbols = 0;

  constructor(seed: number) {
    this.choose = new Choices(seed);
  }

  symbol(kind: string): string {
    return `${kind}${(++this.symbols).toString()}`;
  }

  /** An authValue: mostly short, sometimes with zero bytes at its end. */
  auth(): Buffer {
    const { choose } = this;
    return choose.of(none, none, Buffer.from('a'), Buffer.from('secret'), choose.bytes(20), Buffer.from('zero\0\0'), choose.bytes(32));
  }

  hash(): HashAlgorithm {
    return this.choose.of(TPM_ALG.SHA256, TPM_ALG.SHA256, ...HASH_ALGORITHMS);
  }

  /** Bytes of the size of a digest, or nearly. */
  digest(alg: number = TPM_ALG.SHA256): Buffer {
    const size = digestSize(alg);
    return this.choose.bytes(this.choose.once(20) ? this.choose.of(0, size - 1, size + 1, 20, 64) : size);
  }

  locality(): number {
    return this.choose.once(12) ? this.choose.below(5) : 0;
  }

  pcrSelection(): TPML_PCR_SELECTION {
    const { choose } = this;
    if (choose.once(6)) return [];
    const one = (): TPML_PCR_SELECTION[number] => {
      const pcrSelect = choose.of(Buffer.of(1, 0, 0), Buffer.of(0, 0, 1), Buffer.of(0x80, 0, 0x81), choose.bytes(3), Buffer.alloc(3));
      return { hash: this.hash(), pcrSelect };
    };
    return Array.from({ length: choose.of(1, 1, 1, 2, 3) }, one);
  }

  provision(): Entity {
    return this.choose.of(this.model.owner, this.model.owner, this.model.platform);
  }

  hierarchy(): Entity {
    const { owner, endorsement, platform, null: nil } = this.model;
    return this.choose.of(owner, owner, owner, endorsement, platform, nil);
  }

  /** One of the objects for which `fits`; in one of 25 cases any other handle. Throws {@link NothingFits}. */
  object(fits: (object: LoadedObject) => boolean = () => true): LoadedObject {
    const { choose, model } = this;
    const candidates = model.objects.filter(fits);
    if (candidates.length > 0 && !choose.once(25)) return choose.of(...candidates);
    if (candidates.length === 0 && !choose.once(20)) throw new NothingFits();
    if (model.objects.length > 0 && choose.once(2)) return choose.of(...model.objects);
    return new LoadedObject('', choose.of(0x81000008, 0x81800008), none);
  }

  /** A command; entities among the values stand for their handles and give the authorizations. Throws {@link NothingFits}. */
  command(command: AnyCommand, values: Readonly<Record<string, unknown>>, options: CommandOptions = {}): CommandStep {
    // The handle of what is gone may be another object's by now, and not the same on both TPMs.
    if (!this.model.has(values)) throw new NothingFits();
    const entities = command.handleList.map(([name, { role }]) => {
      if (role === undefined) return undefined;
      const value = values[name];
      return value instanceof Entity ? value : new Entity(value as number);
    });
    const { save, start, deterministic = false } = options;
    // What changes an authValue is not changed itself: the model must know the new one.
    const isExact = options.exact === true || options.newAuth !== undefined;
    const mutation = isExact ? undefined : this.mutation(command);
    const uses = this.uses(
      command,
      entities.filter((entity) => entity !== undefined),
      options,
    );
    const frameMutation = isExact ? undefined : this.frameMutation(command, uses);
    const isWhole = mutation === undefined && frameMutation === undefined;
    return {
      kind: 'command',
      command,
      values: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value instanceof Entity ? value.handle : value])),
      uses,
      locality: options.locality ?? this.locality(),
      deterministic: deterministic && isWhole,
      ...(save !== undefined && isWhole && { save }),
      ...(start !== undefined && { start }),
      ...(mutation !== undefined && { mutation }),
      ...(frameMutation !== undefined && { frameMutation }),
    };
  }

  /** What follows from any step: sessions end. */
  after(step: Step, outcome: Outcome): void {
    if (step.kind === 'power') {
      this.model.powerLost();
      return;
    }
    if (!outcome.ok) return;
    const ended = step.uses.filter(({ attributes }) => (attributes & TPMA_SESSION.continueSession) === 0).map(({ session }) => session);
    this.model.sessions = this.model.sessions.filter(({ symbol }) => !ended.includes(symbol));
    for (const session of this.model.sessions) {
      // A policy session starts over when it has authorized something.
      if (
        session.isPolicy &&
        step.uses.some((use, i) => use.session === session.symbol && step.command.handleList[i]?.[1].role !== undefined)
      )
        session.elements = [];
    }
  }

  /** Sessions in memory that can be used beside `others`. */
  hmacSessions(others: readonly Use[] = []): SessionModel[] {
    return this.model.sessions.filter(
      ({ isPolicy, saved, symbol }) => !isPolicy && saved === undefined && !others.some(({ session }) => session === symbol),
    );
  }

  private mutation(command: AnyCommand): Mutation | undefined {
    const { choose } = this;
    if (!choose.once(40) || neverMutated.has(command.name) || command.inList.length === 0) return undefined;
    switch (choose.below(4)) {
      case 0:
        return { kind: 'truncate', bytes: choose.of(1, 1, 2, 4, 40) };
      case 1:
        return { kind: 'append', bytes: choose.bytes(choose.of(1, 2, 4)) };
      default:
        return { kind: 'flip', at: choose.below(choose.of(8, 16, 64)), bit: choose.below(8) };
    }
  }

  private frameMutation(command: AnyCommand, uses: readonly Use[]): FrameMutation | undefined {
    const { choose } = this;
    if (!choose.once(100)) return undefined;
    const hasSessions = uses.length > 0;
    const tag = choose.of(hasSessions ? TPM_ST.NO_SESSIONS : TPM_ST.SESSIONS, TPM_ST.RSP_COMMAND, 0);
    const add = choose.of(1, -1, 9, -9, 0x1000, -0x1000, 1 + choose.below(64));
    const bytes = choose.of(1, 2, 4, 1 + choose.below(80));
    const isBare = !hasSessions && command.handleList.length + command.inList.length === 0;
    return choose.of<FrameMutation>(
      { kind: 'tag', value: tag },
      { kind: 'code', xor: choose.of(0x2000_0000, 0x0001_0000, 0x8000) },
      ...(hasSessions ? [{ kind: 'authorizationSize', add } as const] : []),
      ...(isBare ? [] : [{ kind: 'cut', bytes } as const]),
    );
  }

  private uses(command: AnyCommand, entities: readonly Entity[], options: CommandOptions): Use[] {
    const { choose } = this;
    if (command.noSessions) return choose.once(80) ? [{ auth: none, attributes: 0 }] : [];
    const uses: Use[] = [];
    entities.forEach((entity, i) => {
      uses.push(this.authorization(command, entity, uses, i, options));
    });
    if (options.plain !== true && uses.length < MAX_SESSIONS && choose.once(6)) {
      const extra = this.hmacSessions(uses);
      const session = extra.length > 0 ? choose.of(...extra) : undefined;
      if (session !== undefined)
        uses.push({ session: session.symbol, auth: none, attributes: this.attributes(command, session, uses, true) });
    }
    if (choose.once(150)) uses.pop();
    return uses;
  }

  private authorization(command: AnyCommand, entity: Entity, earlier: readonly Use[], i: number, options: CommandOptions): Use {
    const { choose } = this;
    const auth = choose.once(80) ? choose.of(none, Buffer.from('wrong'), Buffer.concat([entity.auth, Buffer.alloc(1)])) : entity.auth;
    const common = {
      auth,
      ...(options.newAuth !== undefined && i === 0 && { newAuth: options.newAuth }),
      ...(choose.once(150) && { broken: true }),
    };
    if (i === 0 && options.policy !== undefined) {
      const { policy } = options;
      const withValue = policy.elements.findLast(({ gives }) => gives !== undefined)?.gives;
      return {
        ...common,
        session: policy.symbol,
        attributes: this.attributes(command, policy, earlier, false),
        // Nobody checks the authValue, but parameters are encrypted with it.
        ...(withValue === undefined && { withoutAuth: true, auth: entity.auth }),
        ...(withValue === 'password' && { asPassword: true }),
      };
    }
    const sessions = options.plain === true ? [] : this.hmacSessions(earlier);
    if (sessions.length === 0 || choose.once(2)) return { ...common, attributes: choose.of(0, 0, TPMA_SESSION.continueSession) };
    const session = choose.of(...sessions);
    return {
      ...common,
      ...(session.bind === entity && { isBound: true, auth: entity.auth }),
      session: session.symbol,
      attributes: this.attributes(command, session, earlier, false),
    };
  }

  private attributes(command: AnyCommand, session: SessionModel, earlier: readonly Use[], extra: boolean): number {
    const { choose } = this;
    if (choose.once(100)) return choose.below(256) & 0xe7;
    const taken = earlier.reduce((all, { attributes }) => all | attributes, 0);
    let attributes = choose.once(40) ? 0 : TPMA_SESSION.continueSession;
    const may = (mask: number, possible: boolean, times: number): void => {
      if (possible && (taken & mask) === 0 && choose.once(times)) attributes |= mask;
    };
    may(TPMA_SESSION.decrypt, session.canEncrypt && command.decryptable, 2);
    may(TPMA_SESSION.encrypt, session.canEncrypt && command.encryptable, 2);
    may(TPMA_SESSION.audit, !session.isPolicy, extra ? 2 : 6);
    if ((attributes & TPMA_SESSION.audit) !== 0) {
      may(TPMA_SESSION.auditExclusive, true, 8);
      may(TPMA_SESSION.auditReset, true, 8);
    }
    return attributes;
  }

  /** The policy's elements in a new session of a policy: a plan of its own for `fulfil` in plans/policy.ts. */
  digestOf(policy: Policy | undefined): unknown {
    return policy === undefined ? none : policy.digest;
  }
}
