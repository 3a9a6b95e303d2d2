// What a resource of the control API is.
import type { GuestBackups } from '../../guests/backups/backups.js';
import type { PropertyService } from '../../guests/properties/service.js';
import type { GuestRegistry } from '../../guests/registry.js';
import type { AuditLog } from '../../host/audit-log.js';
import type { ChipView } from '../../host/chip-view.js';

/** What the API shows and changes. */
export interface ApiSubject {
  readonly guests: GuestRegistry;
  readonly backups: GuestBackups;
  readonly audit: AuditLog;
  /** Why the store cannot be written at present; undefined if it can. */
  readonly storeFailure: () => string | undefined;
  readonly chip: ChipView;
  readonly properties: PropertyService;
  readonly stateDir: string;
  readonly runDir: string;
  readonly started: Date;
}

/** A request that has matched a route. */
export interface ApiRequest {
  /** The guest's name, in routes that have one. */
  readonly name: string;
  readonly query: URLSearchParams;
  /** The body as JSON; undefined if there is none. */
  readonly body: unknown;
}

/** One method of one resource. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Path with `:name` where the guest's name stands. */
  readonly path: string;
  readonly status?: number;
  readonly run: (subject: ApiSubject, request: ApiRequest) => unknown;
}
