// Who serves the endpoints of the control API.
import type { Answer, Body, Params, Query } from '../../api/endpoint.js';
import type { Api, EndpointName } from '../../api/endpoints.js';
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

/** A request whose parameters, query and body are what its endpoint takes. */
interface ApiRequest<N extends EndpointName> {
  readonly params: Params<Api[N]>;
  readonly query: Query<Api[N]>;
  readonly body: Body<Api[N]>;
}

/** Serves one endpoint. Throws or rejects with a `Failure`. */
export type ApiHandler<N extends EndpointName> = (subject: ApiSubject, request: ApiRequest<N>) => Answer<Api[N]> | Promise<Answer<Api[N]>>;

/** Who serves which endpoint. */
export type ApiHandlers = { readonly [N in EndpointName]: ApiHandler<N> };
