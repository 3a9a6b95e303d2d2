// A client of the control API: requests by their declarations, answers checked.
import { request } from 'node:http';
import * as v from 'valibot';
import { controlSocketPath } from '../config/paths.js';
import { describeIssue } from '../config/describe-issue.js';
import { EXIT, Failure, reasonOf, systemCode, type ExitCode } from '../failure.js';
import type { Answer, BodyInput, EndpointSpec, Params, Query } from './endpoint.js';
import { API, type Api, type EndpointName } from './endpoints.js';

const UNREACHABLE: Readonly<Record<string, string>> = {
  ENOENT: 'no daemon runs there',
  ECONNREFUSED: 'no daemon runs there',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
};

type Given<N extends string, T> = T extends undefined
  ? { readonly [K in N]?: undefined }
  : undefined extends T
    ? { readonly [K in N]?: T }
    : { readonly [K in N]: T };
type GivenParams<E extends EndpointSpec> = E['params'] extends undefined ? unknown : { readonly params: Params<E> };
type GivenQuery<E extends EndpointSpec> = { readonly query?: Partial<Query<E>> };

/** What a request of an endpoint is made of. */
export type RequestOf<E extends EndpointSpec> = (E extends { readonly params: object } ? GivenParams<E> : unknown) &
  (E extends { readonly query: object } ? GivenQuery<E> : unknown) &
  (E extends { readonly body: object } ? Given<'body', BodyInput<E>> : unknown);

/** A client of the daemon that serves `runDir`. */
export class ApiClient {
  constructor(private readonly runDir: string) {}

  /**
   * The answer of an endpoint. Rejects with the {@link Failure} that the daemon gave, one that says that it cannot be reached, or one that
   * says that its answer is of another version.
   */
  async ask<N extends EndpointName>(name: N, given: RequestOf<Api[N]>): Promise<Answer<Api[N]>> {
    const spec: EndpointSpec = API[name];
    const { params = {}, query = {}, body } = given as { params?: Texts; query?: Texts; body?: unknown };
    const { status, text } = await this.exchange(spec.method, requestPath(spec, params, query), body);
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      throw this.unreachable('its answer is not JSON');
    }
    if (status >= 400) throw failureOf(answer) ?? this.unreachable(`it answered with status ${status.toString()}`);
    return understood(spec, answer) as Answer<Api[N]>;
  }

  private exchange(method: string, path: string, body: unknown): Promise<{ status: number; text: string }> {
    const content = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        reject(this.unreachable(UNREACHABLE[systemCode(error) ?? ''] ?? reasonOf(error)));
      };
      const headers = content === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) };
      const outgoing = request({ socketPath: controlSocketPath(this.runDir), method, path, headers, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, text });
        });
        response.on('error', failed);
      });
      outgoing.on('error', failed);
      outgoing.end(content);
    });
  }

  private unreachable(why: string): Failure {
    return new Failure({
      code: 'daemon_unreachable',
      what: `reaching the daemon at ${controlSocketPath(this.runDir)}`,
      why,
      hint: "start it with 'tpmux serve', or name its directory with --run-dir",
      exit: EXIT.unreachable,
    });
  }
}

type Texts = Readonly<Record<string, string | undefined>>;

/** The path of a request, with its parameters in it. */
function requestPath({ path }: EndpointSpec, params: Texts, query: Texts): string {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ''));
  const asked = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return asked.length === 0 ? filled : `${filled}?${new URLSearchParams(asked).toString()}`;
}

function understood({ answer: schema }: EndpointSpec, answer: unknown): unknown {
  const result = v.safeParse(schema, answer);
  if (result.success) return result.output;
  throw new Failure({
    code: 'bad_answer',
    what: 'reading the answer of the daemon',
    why: describeIssue(result.issues),
    hint: 'use a daemon of the same version',
    exit: EXIT.failed,
  });
}

function failureOf(answer: unknown): Failure | undefined {
  if (typeof answer !== 'object' || answer === null || !('error' in answer)) return undefined;
  const { error } = answer;
  if (typeof error !== 'object' || error === null) return undefined;
  const fields = error as Record<string, unknown>;
  const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '');
  const exit = Object.values(EXIT).find((code) => code === fields['exit']) ?? (EXIT.failed satisfies ExitCode);
  return new Failure({ code: text('code'), what: text('what'), why: text('why'), hint: text('hint'), exit });
}
