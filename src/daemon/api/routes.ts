// Finds who serves a request.
import * as v from 'valibot';
import type { EndpointSpec, TextFields } from '../../api/endpoint.js';
import { API, type EndpointName } from '../../api/endpoints.js';
import { describeIssue } from '../../config/describe-issue.js';
import { EXIT, Failure } from '../../failure.js';
import { backupHandlers } from './backups.js';
import { badRequest } from './bad-request.js';
import { evidenceHandlers } from './evidence.js';
import { guestHandlers } from './guests.js';
import type { ApiHandlers, ApiSubject } from './handler.js';
import { hostHandlers } from './host.js';
import { policyHandlers } from './policies.js';
import { propertyHandlers } from './properties.js';

/** The contract, implemented. */
const handlers: ApiHandlers = {
  ...hostHandlers,
  ...guestHandlers,
  ...policyHandlers,
  ...backupHandlers,
  ...propertyHandlers,
  ...evidenceHandlers,
};

/** A handler without its types. */
type AnyHandler = (subject: ApiSubject, request: { params: unknown; query: unknown; body: unknown }) => unknown;

interface Route {
  readonly spec: EndpointSpec;
  readonly parts: readonly string[];
  readonly handler: AnyHandler;
}

const ROUTES: readonly Route[] = (Object.keys(API) as EndpointName[]).map((name) => ({
  spec: API[name],
  parts: API[name].path.split('/'),
  handler: handlers[name] as unknown as AnyHandler,
}));

/** A request that has an endpoint. */
export interface FoundRoute {
  /** HTTP status of success. */
  readonly status: number;
  /** What the endpoint answers. Throws or rejects with a {@link Failure}. */
  readonly run: (subject: ApiSubject, body: unknown) => unknown;
}

/** The endpoint of a request. Throws a {@link Failure} if there is none. */
export function findRoute(method: string, path: string, query: URLSearchParams): FoundRoute {
  const parts = path.split('/');
  const known = ROUTES.filter((route) => fits(route.parts, parts));
  const route = known.find(({ spec }) => spec.method === method);
  if (route === undefined) throw noRoute(method, path, known.length > 0);
  const { spec, handler } = route;
  return {
    status: spec.status ?? 200,
    run: (subject, body) =>
      handler(subject, {
        params: textsOf(spec.params, paramsIn(route.parts, parts)),
        query: textsOf(spec.query, Object.fromEntries(query)),
        body: spec.body === undefined ? undefined : checked(spec.body, body),
      }),
  };
}

const PARAMETER = /^\{(\w+)\}$/;

function fits(pattern: readonly string[], parts: readonly string[]): boolean {
  return pattern.length === parts.length && pattern.every((part, i) => PARAMETER.test(part) || part === parts[i]);
}

function paramsIn(pattern: readonly string[], parts: readonly string[]): Record<string, string> {
  const names = pattern.map((part) => PARAMETER.exec(part)?.[1]);
  return Object.fromEntries(names.flatMap((name, i) => (name === undefined ? [] : [[name, decoded(parts[i] ?? '')]])));
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw badRequest('the path is not encoded as a URL');
  }
}

function textsOf(fields: TextFields | undefined, given: Readonly<Record<string, string>>): unknown {
  return checked(v.strictObject({ ...fields }), given, 'the query');
}

function checked(schema: v.GenericSchema, value: unknown, whole = 'the body'): unknown {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw badRequest(describeIssue(result.issues, whole));
}

function noRoute(method: string, path: string, known: boolean): Failure {
  return new Failure({
    code: known ? 'no_such_method' : 'no_such_path',
    what: 'request to the daemon',
    why: known ? `${path} has no ${method}` : `there is no ${path}`,
    hint: '',
    exit: EXIT.usage,
  });
}
