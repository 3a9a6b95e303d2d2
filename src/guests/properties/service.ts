// The property providers of a host: its statements, its packages, and the providers of each guest.
import { join } from 'node:path';
import * as v from 'valibot';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { Catalog, type RevocationAnchor } from '../../statements/catalog.js';
import type { GuestPolicy } from '../../policy/guest-policy.js';
import type { ProviderSet } from '../../properties/provider-set/provider-set.js';
import { GuestProviders, missingProvider, type HostProviders, type ProviderChoice } from '../../properties/provider-set/guest-providers.js';
import type { HostEvidence } from '../../properties/providers/platform.js';
import { PropertySet } from '../../statements/property-set.js';
import { ProviderPackage } from '../../properties/providers/package.js';
import { readHostRecord, writeHostRecord } from '../../store/host-record.js';
import type { HostStore } from '../../store/host-store.js';
import type { AuditSink } from '../../host/audit-log.js';
import { GuestLog } from '../../guest-log.js';
import type { Logger } from '../../logger.js';
import { DEFAULT_PROVIDERS, type PropertySection } from '../../config/property-section.js';
import { readTrust } from './trust-roots.js';

/** Host record that remembers the highest number of the revocation lists of each issuer. */
export const REVOCATIONS_RECORD = 'revocations';
const revocationNumbers = v.record(v.string(), v.pipe(v.number(), v.safeInteger(), v.minValue(0)));

/** What {@link PropertyService.open} needs. */
export interface PropertyServiceOptions {
  readonly settings: PropertySection;
  readonly stateDir: string;
  readonly store: Pick<HostStore, 'directory' | 'hostRecord' | 'putHostRecords'>;
  readonly log: Logger;
  /** Told once of each provider that fails for a guest, until the guest is started anew. */
  readonly audit?: AuditSink | undefined;
}

/** Property management of one daemon. */
export class PropertyService {
  private host: HostEvidence | undefined;
  private readonly guests = new Map<string, GuestProviders>();
  private readonly logs = new Map<string, GuestLog>();

  private constructor(
    readonly catalog: Catalog,
    private readonly settings: PropertySection,
    private readonly packages: ReadonlyMap<string, { readonly provider: ProviderPackage; readonly options: unknown }>,
    private readonly log: Logger,
    private readonly audit: AuditSink | undefined,
  ) {}

  /** Loads statements and packages. Rejects with a {@link Failure} if a key or a package is unusable. */
  static async open({ settings, stateDir, store, log, audit }: PropertyServiceOptions): Promise<PropertyService> {
    const trust = await readTrust(settings);
    const catalog = await Catalog.open({ directory: join(stateDir, 'properties'), trust, anchor: anchorIn(store) });
    for (const problem of catalog.problems) log.warn('a property statement or revocation list is passed over', { problem });
    const packages = new Map<string, { provider: ProviderPackage; options: unknown }>();
    for (const { name, module, options, 'time-limit': timeLimit } of settings.packages ?? []) {
      packages.set(name, { provider: await openPackage(name, module, timeLimit), options });
    }
    return new PropertyService(catalog, settings, packages, log, audit);
  }

  /** Names of the providers of guests without a policy. */
  get providerNames(): readonly string[] {
    return this.settings.providers ?? DEFAULT_PROVIDERS;
  }

  /** Reads what the host is, if a policy needs that and it is not known yet; `read` gives the host's PCRs. */
  async learnHost(policy: GuestPolicy, read: () => Promise<HostEvidence['pcrs']>): Promise<void> {
    if (this.host !== undefined || !policy.providers.includes('platform')) return;
    const { host: properties } = this.settings;
    const pcrs = await read();
    this.host = properties === undefined ? { pcrs } : { pcrs, properties: PropertySet.of(properties) };
  }

  /** Throws a {@link Failure} if a guest cannot have the providers of a policy here. */
  checkPolicy(name: string, policy: GuestPolicy): void {
    const why = missingProvider(this.hostProviders, this.choice(policy));
    if (why !== undefined) throw noProvider(name, why);
  }

  /** The providers of a guest that is opened. Throws a {@link Failure} if one of them does not exist. */
  openGuest(guest: { readonly id: string; readonly name: string }, policy: GuestPolicy): GuestProviders {
    const { 'log-size': logSize } = this.settings;
    // A guest that resets itself again and again must not fill the audit log.
    const noted = new Set<string>();
    const log = new GuestLog(this.log, guest.name);
    try {
      const providers = new GuestProviders(this.hostProviders, {
        guest,
        ...this.choice(policy),
        logSize,
        failed: (provider, error) => {
          log.warn('a property provider failed; it counts once per reset here', { provider, reason: reasonOf(error) });
          if (noted.has(provider)) return;
          noted.add(provider);
          void this.note(guest, provider, error);
        },
      });
      this.guests.set(guest.id, providers);
      this.logs.set(guest.id, log);
      return providers;
    } catch (error) {
      throw noProvider(guest.name, reasonOf(error));
    }
  }

  /** A guest that is open has another policy: its providers are others from its next reset on. Throws as {@link checkPolicy}. */
  changeGuest({ id, name }: { readonly id: string; readonly name: string }, policy: GuestPolicy): void {
    this.checkPolicy(name, policy);
    this.guests.get(id)?.choose(this.choice(policy));
  }

  /** The providers of a guest that is open, as of its present power cycle. */
  ofGuest(id: string): ProviderSet | undefined {
    return this.guests.get(id)?.current;
  }

  closeGuest(id: string): void {
    this.guests.get(id)?.close();
    this.guests.delete(id);
    this.logs.get(id)?.close();
    this.logs.delete(id);
  }

  /** A log that cannot be written does not hide it. */
  private async note({ id, name }: { readonly id: string; readonly name: string }, provider: string, error: unknown): Promise<void> {
    try {
      await this.audit?.note({ event: 'provider-failed', guest: name, id, detail: `${provider}: ${reasonOf(error)}` });
    } catch (problem) {
      this.log.error('the failure of a property provider could not be noted', { guest: name, provider, reason: reasonOf(problem) });
    }
  }

  private get hostProviders(): HostProviders {
    return { statements: this.catalog, host: this.host, packages: this.packages };
  }

  private choice(policy: GuestPolicy): ProviderChoice {
    const { certified } = this.settings;
    const { providers: names, unknown = certified?.unknown, platform } = policy;
    return {
      names,
      certified: { ...certified, unknown },
      platform,
      presented: (index) => policy.presentedProvider(index),
      attested: (index) => policy.attestProvider(index),
    };
  }

  /** Ends the threads of all packages. */
  async close(): Promise<void> {
    for (const { provider } of this.packages.values()) await provider.close();
  }
}

function noProvider(guest: string, why: string): Failure {
  return new Failure({
    code: 'no_provider',
    what: `the property providers of guest ${guest}`,
    why,
    hint: "correct the guest's policy, or the section properties of the configuration",
    exit: EXIT.failed,
  });
}

async function openPackage(name: string, module: string, timeLimit: number | undefined): Promise<ProviderPackage> {
  const provider = new ProviderPackage({ module, timeLimit });
  try {
    await provider.open();
  } catch (error) {
    await provider.close();
    throw new Failure(
      {
        code: 'bad_provider',
        what: `loading property provider ${name} from ${module}`,
        why: reasonOf(error),
        hint: 'see docs/providers.md; install the package, or correct properties.packages',
        exit: EXIT.failed,
      },
      { cause: error },
    );
  }
  return provider;
}

function anchorIn(store: PropertyServiceOptions['store']): RevocationAnchor {
  return {
    load: () => new Map(Object.entries(readHostRecord(store, REVOCATIONS_RECORD, revocationNumbers) ?? {})),
    save: (numbers) => writeHostRecord(store, REVOCATIONS_RECORD, Object.fromEntries(numbers)),
  };
}
