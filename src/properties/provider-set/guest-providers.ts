// The providers of one guest, over its power cycles.
import { isDeepStrictEqual } from 'node:util';
import { isBuiltIn, type PlatformSource } from '../../config/names.js';
import { IMPLEMENTATION_PCR } from '../../tpm/constants/index.js';
import { CertifiedProvider, type CertifiedOptions } from '../providers/certified.js';
import { LogProvider } from '../providers/log.js';
import { PlatformProvider, type HostEvidence } from '../providers/platform.js';
import { DIGEST, type NamedProvider, type PropertyProvider, type ProviderContext } from '../providers/provider.js';
import type { ProviderPackage } from '../providers/package.js';
import { decodeChoice, encodeChoice } from '../matrix/provider-choice.js';
import type { SavedMatrix, SavedProvider } from '../matrix/saved-matrix.js';
import type { StatementSnapshot } from '../../statements/statement-index.js';

/** The provider that keeps the measurement log. */
export const LOG_PROVIDER = 'log';

/** Where `certified` gets its statements. */
export interface StatementSource {
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

/** What holds for one power cycle. */
interface CurrentChoice extends ProviderChoice {
  /** By PCR. */
  readonly vectors: { readonly presented: readonly string[]; readonly attested: readonly string[] };
}

/**
 * Makes the providers of one guest: new ones after each reset, or such as go on from saved state. What is chosen anew while the guest
 * runs holds from its next reset on.
 */
export class GuestProviders {
  /** Failures since the guest was opened, by provider. */
  readonly failures = new Map<string, number>();
  private readonly told = new Set<string>();
  private kept: StatementSnapshot[] = [];
  private live = new Map<string, ClosableProvider>();
  private next: ProviderChoice;
  private current: CurrentChoice;

  /** Throws an Error if there is no provider of one of the names. */
  constructor(
    private readonly host: HostProviders,
    private readonly options: GuestProviderOptions,
  ) {
    this.next = this.checked(options);
    this.current = settled(this.next);
  }

  /** Other providers from the next reset on. Throws an Error if there is no provider of one of the names; nothing has changed then. */
  choose(choice: ProviderChoice): void {
    this.next = this.checked(choice);
  }

  /** Whether something else was chosen than what holds in this power cycle. */
  get pending(): boolean {
    return !isDeepStrictEqual(plain(this.current), plain(settled(this.next)));
  }

  /** The providers of this power cycle. */
  get names(): readonly string[] {
    return this.current.names;
  }

  /** The provider whose vector the guest sees at PCR `index` in this power cycle. */
  readonly presented = (index: number): string => this.current.vectors.presented[index] ?? this.first;

  /** The provider whose vector attestation goes by at PCR `index` in this power cycle. */
  readonly attested = (index: number): string => this.current.vectors.attested[index] ?? this.first;

  /** For the matrix: counts, and tells the first failure after each reset. */
  readonly failed = (provider: string, error: unknown): void => {
    this.failures.set(provider, (this.failures.get(provider) ?? 0) + 1);
    if (this.told.has(provider)) return;
    this.told.add(provider);
    this.options.failed?.(provider, error);
  };

  /** The providers of a new power cycle. They go by what was chosen last and by the statements that are in force now. */
  begin(): NamedProvider[] {
    this.current = settled(this.next);
    return this.fresh();
  }

  /**
   * A guest goes on from saved state: the providers and vectors of that time count. Gives all providers anew if they are others than
   * those of this power cycle, undefined if they are the same. Those that do not exist any more are left out.
   */
  goOnAs({ vectors, providers }: SavedMatrix): NamedProvider[] | undefined {
    const saved = [...new Set(vectors.map(({ provider }) => provider.toString()))].filter((name) => exists(this.host, name));
    const names = saved.length === 0 ? this.names : saved;
    const same = names.length === this.names.length && names.every((name, at) => name === this.names[at]);
    const entry = providers.find(({ provider }) => provider.length === 0);
    const choice = entry === undefined ? undefined : decodeChoice(entry.state);
    const presented = choice === undefined ? this.presented : (index: number) => choice.presented[index] ?? '';
    const attested = choice === undefined ? this.attested : (index: number) => choice.attested[index] ?? '';
    this.current = settled({ ...this.current, names, presented, attested });
    return same ? undefined : this.fresh();
  }

  /** What {@link goOnAs} must know of this power cycle: an entry without a name. */
  saveChoice(): SavedProvider {
    return { provider: Buffer.alloc(0), state: encodeChoice(this.current.vectors) };
  }

  /** Providers that go on where the saved ones were; a state that is refused is told, and its provider begins anew. */
  resume(saved: readonly SavedProvider[]): NamedProvider[] {
    return saved.flatMap(({ provider, state }) => {
      const name = provider.toString();
      if (!this.names.includes(name)) return [];
      try {
        return [this.named(name, Buffer.from(state))];
      } catch (error) {
        this.failed(name, error);
        return [this.named(name)];
      }
    });
  }

  /** The running provider of a name. */
  provider(name: string): PropertyProvider | undefined {
    return this.live.get(name);
  }

  /** The measurement log's provider, if the guest has one. */
  get log(): LogProvider | undefined {
    const provider = this.live.get(LOG_PROVIDER);
    return provider instanceof LogProvider ? provider : undefined;
  }

  /** Frees what packages hold for the guest. */
  close(): void {
    for (const provider of this.live.values()) provider.close?.();
    this.live = new Map();
  }

  private get first(): string {
    return this.names[0] ?? 'digest';
  }

  private fresh(): NamedProvider[] {
    this.close();
    this.told.clear();
    return this.names.map((name) => this.named(name));
  }

  private checked(choice: ProviderChoice): ProviderChoice {
    const why = missingProvider(this.host, choice);
    if (why !== undefined) throw new Error(why);
    return choice;
  }

  private named(name: string, state?: Buffer): NamedProvider {
    const provider = this.make(name, state);
    const before = this.live.get(name);
    before?.close?.();
    this.live.set(name, provider);
    return { name, provider };
  }

  private make(name: string, state: Buffer | undefined): ClosableProvider {
    const { guest, logSize } = this.options;
    const { certified, platform } = this.current;
    switch (name) {
      case 'digest':
        return DIGEST.provider;
      case 'certified':
        return new CertifiedProvider(this.snapshot(state), certified);
      case 'platform':
        return new PlatformProvider(this.host.host ?? { pcrs: new Map() }, platform);
      case LOG_PROVIDER:
        return new LogProvider(logSize, state);
    }
    const found = this.host.packages.get(name);
    if (found === undefined) throw new Error(`there is no property provider '${name}'`);
    return found.provider.instance({ guest, provider: name, options: found.options }, state);
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
function settled(choice: ProviderChoice): CurrentChoice {
  const { names, presented, attested } = choice;
  const [first = 'digest'] = names;
  const existing = (name: string): string => (names.includes(name) ? name : first);
  const each = (of: (index: number) => string): string[] => Array.from({ length: IMPLEMENTATION_PCR }, (_, index) => existing(of(index)));
  const shown = each(presented ?? (() => 'digest'));
  return { ...choice, vectors: { presented: shown, attested: attested === undefined ? shown : each(attested) } };
}

function plain({ names, certified, platform, vectors }: CurrentChoice): unknown {
  return { names, certified, platform, vectors };
}

/** A provider, and what frees what a package holds for it. */
type ClosableProvider = PropertyProvider & { close?(): void };
