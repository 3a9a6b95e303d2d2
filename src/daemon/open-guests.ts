// The guests of a daemon: those that ran when the one before it ended go on.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/config.js';
import { volatilePath } from '../config/paths.js';
import { readBootId } from '../guests/journal.js';
import { GuestRegistry } from '../guests/registry.js';
import type { Logger } from '../logger.js';
import type { DescriptorStore } from '../transport/kept/descriptor-store.js';
import type { OpenedHost } from './open-host.js';
import type { Resources } from './resources.js';

/** What {@link openGuests} needs. */
export interface GuestsRequest {
  readonly config: Config;
  readonly log: Logger;
  readonly host: OpenedHost;
  /** What the service manager kept of the daemon before this one. */
  readonly descriptors: DescriptorStore;
}

/** Starts the guests that are to run, now and whenever the chip comes back. One that cannot be started does not stop the others. */
export async function openGuests({ config, log, host, descriptors }: GuestsRequest, resources: Resources): Promise<GuestRegistry> {
  const { store, audit, policies, factory, chip } = host;
  const { maxConnections, partialFrameTimeout, unreadResponseTimeout, stopTimeout } = config;
  const guests = new GuestRegistry({
    store,
    factory,
    policies,
    log,
    audit,
    directory: await makeDirectory(join(config.runDir, 'guests')),
    journals: { directory: volatilePath(config.runDir), bootId: await readBootId() },
    descriptors,
    limits: { maxConnections, partialFrameTimeout, unreadResponseTimeout },
    stopTimeout,
  });
  resources.add('kept sockets', () => descriptors.flushed());
  resources.add('guests', () => guests.suspendAll());
  await guests.resumeAll();
  descriptors.dropUnused((id) => guests.list().some(({ meta, state }) => meta.id === id && state === 'failed'));
  chip.onUsable(() => {
    void guests.resumeAll();
  });
  return guests;
}

/** For root alone, also if it is there already. */
async function makeDirectory(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  return path;
}
