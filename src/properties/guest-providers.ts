// The providers of one guest, over its power cycles.
import { CertifiedProvider, type CertifiedOptions } from './certified-provider.js';
import { LogProvider } from './log-provider.js';
import { PlatformProvider, type HostEvidence, type PlatformSource } from './platform-provider.js';
import { DIGEST, type NamedProvider, type PropertyProvider, type ProviderContext } from './provider.js';
import type { ProviderPackage } from './provider-package.js';
import type { SavedProvider } from './saved-matrix.js';
import type { StatementSnapshot } from './statement-index.js';

/** Providers that need no package. */
export const BUILT_IN_PROVIDERS = ['digest', 'certified', 'platform', 'log'] as const;
export type BuiltInProvider = (typeof BUILT_IN_PROVIDERS)[number];

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

/** Which providers a guest has, and how. */
export interface GuestProviderOptions {
  readonly guest: ProviderContext['guest'];
  /** Names, at least one; `digest` first makes extends cheaper. */
  readonly names: readonly string[];
  readonly certified?: CertifiedOptions | undefined;
  readonly platform?: PlatformSource | undefined;
  /** Bytes that `log` keeps at most. */
  readonly logSize?: number | undefined;
  /** The provider whose vector the guest sees at a PCR index; default `digest`, or the first. */
  readonly presented?: ((index: number) => string) | undefined;
  /** Is told of a provider's first failure after each reset. */
  readonly failed?: ((provider: string, error: unknown) => void) | undefined;
}

/** Snapshots that a guest keeps from earlier power cycles, to resume with. */
const KEPT_SNAPSHOTS = 4;

/** Makes the providers of one guest: new ones after each reset, or such as go on from saved state. */
export class GuestProviders {
  /** Failures since the guest was opened, by provider. */
  readonly failures = new Map<string, number>();
  private readonly told = new Set<string>();
  private kept: StatementSnapshot[] = [];
  private live = new Map<string, ClosableProvider>();

  /** Throws an Error if there is no provider of one of the names. */
  constructor(
    private readonly host: HostProviders,
    private readonly options: GuestProviderOptions,
  ) {
    const { names } = options;
    if (names.length === 0) throw new Error('a guest needs a property provider');
    if (new Set(names).size !== names.length) throw new Error('a property provider is named twice');
    for (const name of names) if (!this.exists(name)) throw new Error(this.whyMissing(name));
  }

  get names(): readonly string[] {
    return this.options.names;
  }

  /** The provider whose vector the guest sees at PCR `index`. */
  readonly presented = (index: number): string => {
    const { names, presented } = this.options;
    const name = presented?.(index) ?? 'digest';
    return names.includes(name) ? name : (names[0] ?? name);
  };

  /** For the matrix: counts, and tells the first failure after each reset. */
  readonly failed = (provider: string, error: unknown): void => {
    this.failures.set(provider, (this.failures.get(provider) ?? 0) + 1);
    if (this.told.has(provider)) return;
    this.told.add(provider);
    this.options.failed?.(provider, error);
  };

  /** The providers of a new power cycle. They go by the statements that are in force now. */
  begin(): NamedProvider[] {
    this.close();
    this.told.clear();
    return this.names.map((name) => this.named(name));
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
    const provider = this.live.get('log');
    return provider instanceof LogProvider ? provider : undefined;
  }

  /** Frees what packages hold for the guest. */
  close(): void {
    for (const provider of this.live.values()) provider.close?.();
    this.live = new Map();
  }

  private named(name: string, state?: Buffer): NamedProvider {
    const provider = this.make(name, state);
    const before = this.live.get(name);
    before?.close?.();
    this.live.set(name, provider);
    return { name, provider };
  }

  private make(name: string, state: Buffer | undefined): ClosableProvider {
    const { guest, certified, platform, logSize } = this.options;
    switch (name) {
      case 'digest':
        return DIGEST.provider;
      case 'certified':
        return new CertifiedProvider(this.snapshot(state), certified);
      case 'platform':
        return new PlatformProvider(this.host.host ?? { pcrs: new Map() }, platform);
      case 'log':
        return new LogProvider(logSize, state);
    }
    const found = this.host.packages.get(name);
    if (found === undefined) throw new Error(this.whyMissing(name));
    return found.provider.instance({ guest, provider: name, options: found.options }, state);
  }

  private snapshot(state: Buffer | undefined): StatementSnapshot {
    const held = state === undefined ? undefined : this.host.statements.heldSnapshot(state.toString('hex'));
    const snapshot = held ?? this.host.statements.snapshot();
    this.kept = [snapshot, ...this.kept.filter((one) => one !== snapshot)].slice(0, KEPT_SNAPSHOTS);
    return snapshot;
  }

  private exists(name: string): boolean {
    if (name === 'platform') return this.host.host !== undefined;
    return (BUILT_IN_PROVIDERS as readonly string[]).includes(name) || this.host.packages.has(name);
  }

  private whyMissing(name: string): string {
    return name === 'platform'
      ? "the host's PCRs are not known, so there is no provider 'platform'"
      : `there is no property provider '${name}'`;
  }
}

/** A provider, and what frees what a package holds for it. */
type ClosableProvider = PropertyProvider & { close?(): void };
