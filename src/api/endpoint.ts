// How an endpoint of the control API is declared. One declaration serves the daemon, its clients and the documentation.
import type * as v from 'valibot';
import type { ApiErrorCode } from './errors.js';

/** Texts of a path or query by name. */
export type TextFields = Readonly<Record<string, v.GenericSchema<string | undefined>>>;

/** One method of one resource. */
export interface EndpointSpec {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Below the socket; `{name}` stands for a path parameter, encoded as in a URL. */
  readonly path: string;
  /** One line, for people. */
  readonly summary: string;
  /** More, for people; paragraphs of Markdown. */
  readonly description?: string;
  readonly params?: TextFields;
  readonly query?: TextFields;
  /** JSON of the request; absent if it has none. */
  readonly body?: v.GenericSchema;
  /** HTTP status of success; default 200. */
  readonly status?: 200 | 201;
  /** JSON of a successful answer. */
  readonly answer: v.GenericSchema;
  /** Codes of errors, besides those that every endpoint can give; see `errors.ts`. */
  readonly errors?: readonly ApiErrorCode[];
}

/** Declares an endpoint. */
export function endpoint<const E extends EndpointSpec>(spec: E): E {
  return spec;
}

type Fields<F> = F extends TextFields ? { readonly [N in keyof F]: v.InferOutput<F[N]> } : Readonly<Record<never, never>>;

/** Data that is only looked at. */
type Seen<T> = T extends readonly (infer U)[] ? readonly Seen<U>[] : T extends object ? { readonly [N in keyof T]: Seen<T[N]> } : T;

/** Parameters in an endpoint's path, as whoever serves it gets them. */
export type Params<E extends EndpointSpec> = Fields<E['params']>;
/** Parameters in its query. */
export type Query<E extends EndpointSpec> = Fields<E['query']>;
/** Its body, read. */
export type Body<E extends EndpointSpec> = E['body'] extends v.GenericSchema ? v.InferOutput<E['body']> : undefined;
/** Its body, as a client writes it. */
export type BodyInput<E extends EndpointSpec> = E['body'] extends v.GenericSchema ? Seen<v.InferInput<E['body']>> : undefined;
/** What it answers. */
export type Answer<E extends EndpointSpec> = Seen<v.InferOutput<E['answer']>>;
