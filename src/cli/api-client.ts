// Requests to the daemon.
import { request } from 'node:http';
import { controlSocketPath } from '../config/paths.js';
import { EXIT, Failure, reasonOf, systemCode, type ExitCode } from '../failure.js';

const FOLDED: Readonly<Record<string, string>> = {
  ENOENT: 'no daemon runs there',
  ECONNREFUSED: 'no daemon runs there',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
};

/** A client of the daemon that serves `runDir`. */
export class ApiClient {
  constructor(private readonly runDir: string) {}

  /** The answer's JSON. Rejects with the {@link Failure} that the daemon gave, or one that says that it cannot be reached. */
  async ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    const { status, text } = await this.exchange(method, path, body);
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      throw this.unreachable('its answer is not JSON');
    }
    if (status >= 400) throw failureOf(answer) ?? this.unreachable(`it answered with status ${status.toString()}`);
    return answer;
  }

  private exchange(method: string, path: string, body: unknown): Promise<{ status: number; text: string }> {
    const content = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        reject(this.unreachable(FOLDED[systemCode(error) ?? ''] ?? reasonOf(error)));
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

/** Path of a guest's resource. */
export function guestPath(name: string, rest = ''): string {
  return `/v1/guests/${encodeURIComponent(name)}${rest}`;
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
