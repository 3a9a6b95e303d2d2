// The providers of one guest, over its power cycles.
import { isDeepStrictEqual } from 'node:util';
import { isBuiltIn, type PlatformSource } from '../../config/names.js';
import { IMPLEMENTATION_PCR } from '../../tpm/constants/index.js';
import { CertifiedProvider, type CertifiedOptions } from '../providers/certified.js';
import { PlatformProvider, type HostEvidence } from '../providers/platform.js';
import { DIGEST, type ProviderContext } from '../providers/provider.js';
import type { ProviderPackage } from '../providers/package.js';
import type { SavedMatrix } from '../matrix/saved-matrix.js';
import { LOG_PROVIDER, LogObserver } from '../measurement-log/log-observer.js';
import type { StatementSnapshot } from '../../statements/statement-index.js';
import { ProviderSet, type ClosableProvider, type VectorChoice } from './provider-set.js';

/** Where `certified` gets its statements. */
interface StatementSource {
  snapshot(): StatementSnapshot;
  heldSnapshot(id: string): StatementSnapshot | undefined;
}

/** What the providers of a host have in common. */
export interface HostProviders {
  readonly statements: StatementSource;
  /** Undefined if the host's PCRs are not known: then there is no `platform`. */
  readonly host: HostEvidence | undefined;
  /** Providers of packages, by name. */
  readonly packages: ReadonlyMap<string, { readonly provider: ProviderPackage; readonly options: unknown }>;
}

/** What a guest's policy chooses. */
export interface ProviderChoice {
  /** Names, at least one; `digest` first makes extends cheaper. */
  readonly names: readonly string[];
  readonly certified?: CertifiedOptions | undefined;
  readonly platform?: PlatformSource | undefined;
  /** The provider whose vector the guest sees at a PCR index; default `digest`, or the first. */
  readonly presented?: ((index: number) => string) | undefined;
  /** The provider whose vector attestation goes by at a PCR index; default the presented one. */
  readonly attested?: ((index: number) => string) | undefined;
}

/** Which providers a guest has, and how. */
export interface GuestProviderOptions extends ProviderChoice {
  readonly guest: ProviderContext['guest'];
  /** Bytes that `log` keeps at most. */
  readonly logSize?: number | undefined;
  /** Is told of a provider's first failure after each reset. */
  readonly failed?: ((provider: string, error: unknown) => void) | undefined;
}

/** Snapshots that a guest keeps from earlier power cycles, to resume with. */
const KEPT_SNAPSHOTS = 4;

/** What a set is made by. */
interface SettledChoice {
  readonly names: readonly string[];
  readonly certified: CertifiedOptions | undefined;
  readonly platform: PlatformSource | undefined;
  readonly vectors: VectorChoice;
}

/** What a set goes on from. */
interface SavedStates {
  readonly states: ReadonlyMap<string, Buffer>;
  readonly log: Buffer;
}

const NOTHING: SavedStates = { states: new Map(), log: Buffer.alloc(0) };

/**
 * Makes the provider sets of one guest: a new one for each power cycle, or one that goes on from saved state. What is chosen anew while
 * the guest runs holds from its next reset on.
 */
export class GuestProviders {
  /** Failures since the guest was opened, by provider. */
  readonly failures = new Map<string, number>();
  private readonly told = new Set<string>();
  private kept: StatementSnapshot[] = [];
  private next: ProviderChoice;
  private settled: SettledChoice;
  private live: ProviderSet | undefined;

  /** Throws an Error if there is no provider of one of the names. */
  constructor(
    private readonly host: HostProviders,
    private readonly options: GuestProviderOptions,
  ) {
    this.next = this.checked(options);
    this.settled = settle(this.next);
  }

  /** The set of this power cycle; undefined before the first {@link begin} and after {@link close}. */
  get current(): ProviderSet | undefined {
    return this.live;
  }

  /** Other providers from the next reset on. Throws an Error if there is no provider of one of the names; nothing has changed then. */
  choose(choice: ProviderChoice): void {
    this.next = this.checked(choice);
  }

  /** Whether something else was chosen than what holds in this power cycle. */
  get pending(): boolean {
    return !isDeepStrictEqual(this.settled, settle(this.next));
  }

  /** The set of a new power cycle. It goes by what was chosen last and by the statements that are in force now. */
  begin(): ProviderSet {
    this.told.clear();
    return this.take(settle(this.next), NOTHING);
  }

  /**
   * The set of a guest that goes on from saved state: the providers and vectors of that time count, whatever was chosen meanwhile.
   * Providers that do not exist any more are left out; a state that is refused is told, and its provider begins anew.
   */
  goOn({
    vectors,
    choice,
    providers,
    log,
  }: Omit<SavedMatrix, 'vectors'> & { readonly vectors: readonly { provider: Buffer }[] }): ProviderSet {
    const saved = [...new Set(vectors.map(({ provider }) => provider.toString()))].filter((name) => exists(this.host, name));
    const names = saved.length === 0 ? this.settled.names : saved;
    const named = (all: readonly Buffer[], by: readonly string[]): ((index: number) => string) =>
      all.length === 0 ? (index) => by[index] ?? '' : (index) => all[index]?.toString() ?? '';
    const { vectors: present, certified, platform } = this.settled;
    const presented = named(choice.presented, present.presented);
    const attested = named(choice.attested, present.attested);
    const states = new Map(providers.map(({ provider, state }) => [provider.toString(), state]));
    return this.take(settle({ names, certified, platform, presented, attested }), { states, log });
  }

  /** Frees what packages hold for the guest. */
  close(): void {
    this.live?.close();
    this.live = undefined;
  }

  /** Counts, and tells the first failure after each reset. */
  private readonly failed = (provider: string, error: unknown): void => {
    this.failures.set(provider, (this.failures.get(provider) ?? 0) + 1);
    if (this.told.has(provider)) return;
    this.told.add(provider);
    this.options.failed?.(provider, error);
  };

  private checked(choice: ProviderChoice): ProviderChoice {
    const why = missingProvider(this.host, choice);
    if (why !== undefined) throw new Error(why);
    return choice;
  }

  private take(choice: SettledChoice, { states, log }: SavedStates): ProviderSet {
    this.close();
    this.settled = choice;
    const providers = choice.names.map((name) => ({ name, provider: this.goingOn(name, states.get(name)) }));
    const observer = choice.names.includes(LOG_PROVIDER) ? this.observer(log) : undefined;
    this.live = new ProviderSet({ providers, vectors: choice.vectors, observer, failed: this.failed });
    return this.live;
  }

  private goingOn(name: string, state: Buffer | undefined): ClosableProvider {
    try {
      return this.make(name, state === undefined ? undefined : Buffer.from(state));
    } catch (error) {
      if (state === undefined) throw error;
      this.failed(name, error);
      return this.make(name, undefined);
    }
  }

  private make(name: string, state: Buffer | undefined): ClosableProvider {
    const { certified, platform } = this.settled;
    switch (name) {
      case 'digest':
      case LOG_PROVIDER:
        return DIGEST.provider;
      case 'certified':
        return new CertifiedProvider(this.snapshot(state), certified);
      case 'platform':
        return new PlatformProvider(this.host.host ?? { pcrs: new Map() }, platform);
    }
    const found = this.host.packages.get(name);
    if (found === undefined) throw new Error(`there is no property provider '${name}'`);
    return found.provider.instance({ guest: this.options.guest, provider: name, options: found.options }, state);
  }

  private observer(saved: Buffer): LogObserver {
    const observer = new LogObserver(this.options.logSize);
    if (saved.length === 0) return observer;
    try {
      observer.goOnFrom(Buffer.from(saved));
    } catch (error) {
      this.failed(LOG_PROVIDER, error);
    }
    return observer;
  }

  private snapshot(state: Buffer | undefined): StatementSnapshot {
    const held = state === undefined ? undefined : this.host.statements.heldSnapshot(state.toString('hex'));
    const snapshot = held ?? this.host.statements.snapshot();
    this.kept = [snapshot, ...this.kept.filter((one) => one !== snapshot)].slice(0, KEPT_SNAPSHOTS);
    return snapshot;
  }
}

/** Why a host's guest cannot have these providers; undefined if it can. */
export function missingProvider(host: HostProviders, { names, platform }: ProviderChoice): string | undefined {
  if (names.length === 0) return 'a guest needs a property provider';
  if (new Set(names).size !== names.length) return 'a property provider is named twice';
  const missing = names.find((name) => !exists(host, name));
  if (missing === 'platform') return "the host's PCRs are not known, so there is no provider 'platform'";
  if (missing !== undefined) return `there is no property provider '${missing}'`;
  return platform === 'properties' && names.includes('platform') && host.host?.properties === undefined
    ? "the configuration has no properties.host, from which 'platform' would start"
    : undefined;
}

function exists({ host, packages }: HostProviders, name: string): boolean {
  return name === 'platform' ? host !== undefined : isBuiltIn(name) || packages.has(name);
}

/** What is chosen for each PCR now; a choice that is changed later makes no difference. */
function settle({ names, certified, platform, presented, attested }: ProviderChoice): SettledChoice {
  const [first = DIGEST.name] = names;
  const existing = (name: string): string => (names.includes(name) ? name : first);
  const each = (of: (index: number) => string): string[] => Array.from({ length: IMPLEMENTATION_PCR }, (_, index) => existing(of(index)));
  const shown = each(presented ?? (() => DIGEST.name));
  return { names, certified, platform, vectors: { presented: shown, attested: attested === undefined ? shown : each(attested) } };
}
