// The property providers of a host: its statements, its packages, and the providers of each guest.
import { join } from 'node:path';
import { EXIT, Failure, reasonOf } from '../failure.js';
import { Catalog, type RevocationAnchor } from '../properties/catalog.js';
import { GuestProviders } from '../properties/guest-providers.js';
import type { HostEvidence } from '../properties/platform-provider.js';
import { ProviderPackage } from '../properties/provider-package.js';
import type { HostStore } from '../store/host-store.js';
import type { Logger } from './logger.js';
import { DEFAULT_PROVIDERS, readTrust, type PropertySection } from './property-settings.js';

/** Host record that remembers the numbers of revocation lists. */
const REVOCATIONS_RECORD = 'revocations';

/** What {@link PropertyService.open} needs. */
export interface PropertyServiceOptions {
  readonly settings: PropertySection;
  readonly stateDir: string;
  readonly store: Pick<HostStore, 'hostRecord' | 'putHostRecords'>;
  readonly log: Logger;
}

/** Property management of one daemon. */
export class PropertyService {
  /** What guests are told of their host; known once the chip is open. */
  host: HostEvidence | undefined;
  private readonly guests = new Map<string, GuestProviders>();

  private constructor(
    readonly catalog: Catalog,
    private readonly settings: PropertySection,
    private readonly packages: ReadonlyMap<string, { readonly provider: ProviderPackage; readonly options: unknown }>,
    private readonly log: Logger,
  ) {}

  /** Loads statements and packages. Rejects with a {@link Failure} if a key or a package is unusable. */
  static async open({ settings, stateDir, store, log }: PropertyServiceOptions): Promise<PropertyService> {
    const trust = await readTrust(settings);
    const catalog = await Catalog.open({ directory: join(stateDir, 'properties'), trust, anchor: anchorIn(store) });
    for (const problem of catalog.problems) log.warn('a property statement or revocation list is passed over', { problem });
    const packages = new Map<string, { provider: ProviderPackage; options: unknown }>();
    for (const { name, module, options, 'time-limit': timeLimit } of settings.packages ?? []) {
      packages.set(name, { provider: await openPackage(name, module, timeLimit), options });
    }
    return new PropertyService(catalog, settings, packages, log);
  }

  /** Names of the providers that guests get unless told otherwise. */
  get providerNames(): readonly string[] {
    return this.settings.providers ?? DEFAULT_PROVIDERS;
  }

  /** Whether {@link host} must be known. */
  get needsHost(): boolean {
    return this.providerNames.includes('platform');
  }

  /** The providers of a guest that is opened. Throws a {@link Failure} if one of them does not exist. */
  openGuest(guest: { readonly id: string; readonly name: string }): GuestProviders {
    const { certified, 'log-size': logSize } = this.settings;
    try {
      const providers = new GuestProviders(
        { statements: this.catalog, host: this.host, packages: this.packages },
        {
          guest,
          names: this.providerNames,
          certified,
          logSize,
          failed: (provider, error) => {
            this.log.warn('a property provider failed; it counts once per reset here', {
              guest: guest.name,
              provider,
              reason: reasonOf(error),
            });
          },
        },
      );
      this.guests.set(guest.id, providers);
      return providers;
    } catch (error) {
      throw new Failure(
        {
          code: 'no_provider',
          what: `the property providers of guest ${guest.name}`,
          why: reasonOf(error),
          hint: 'correct the section properties of the configuration',
          exit: EXIT.failed,
        },
        { cause: error },
      );
    }
  }

  /** The providers of a guest that is open. */
  ofGuest(id: string): GuestProviders | undefined {
    return this.guests.get(id);
  }

  closeGuest(id: string): void {
    this.guests.get(id)?.close();
    this.guests.delete(id);
  }

  /** Ends the threads of all packages. */
  async close(): Promise<void> {
    for (const { provider } of this.packages.values()) await provider.close();
  }
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
    load: () => {
      const record = store.hostRecord(REVOCATIONS_RECORD);
      const numbers = record === undefined ? {} : (JSON.parse(record.toString('utf8')) as Record<string, number>);
      return new Map(Object.entries(numbers));
    },
    save: (numbers) =>
      store.putHostRecords(new Map([[REVOCATIONS_RECORD, Buffer.from(JSON.stringify(Object.fromEntries(numbers)), 'utf8')]])),
  };
}
