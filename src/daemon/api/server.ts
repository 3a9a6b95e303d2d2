// HTTP with JSON on a UNIX socket: how everything outside talks to the daemon.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { chmod, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { Registry } from 'prom-client';
import { statusOf } from '../../api/errors.js';
import { EXIT, Failure, reasonOf } from '../../failure.js';
import { prepareUnixPath } from '../../transport/listener.js';
import type { Logger } from '../../logger.js';
import { badRequest } from './bad-request.js';
import type { ApiSubject } from './handler.js';
import { findRoute } from './routes.js';

/** Largest request body, in bytes: a backup and its frame. */
const MAX_BODY = 1 << 24;
const BODY_TIMEOUT_MS = 10_000;

export interface ControlApiOptions {
  /** Path of the UNIX socket; mode 0600. Its directory is the caller's. */
  readonly path: string;
  readonly subject: ApiSubject;
  readonly metrics: Registry;
  readonly log: Logger;
  /** Who is at the other end of a connection's descriptor. */
  readonly peerUid: (fd: number) => number;
}

/** The control API, listening. */
export class ControlApi {
  private constructor(
    private readonly server: Server,
    private readonly path: string,
  ) {}

  static async listen(options: ControlApiOptions): Promise<ControlApi> {
    const server = createServer({ requestTimeout: BODY_TIMEOUT_MS, headersTimeout: BODY_TIMEOUT_MS }, (request, response) => {
      void answer(options, request, response);
    });
    server.on('connection', (socket: Socket) => {
      if (!mayUse(options, socket)) socket.destroy();
    });
    await prepareUnixPath(options.path);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.path, resolve);
    });
    await chmod(options.path, 0o600);
    return new ControlApi(server, options.path);
  }

  /** Accepts nothing more; requests that run get their answers. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.server.close(() => {
        resolve();
      });
      this.server.closeIdleConnections();
    });
    await rm(this.path, { force: true });
  }
}

/** The socket's mode decides already; this holds where somebody changed it. */
function mayUse({ peerUid, log }: ControlApiOptions, socket: Socket): boolean {
  const fd = descriptorOf(socket);
  if (fd === undefined) return false;
  try {
    const uid = peerUid(fd);
    if (uid === 0 || uid === process.getuid?.()) return true;
    log.warn('refused a control connection', { uid });
  } catch (error) {
    log.error('cannot tell who opened a control connection', { reason: reasonOf(error) });
  }
  return false;
}

function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}

async function answer(options: ControlApiOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const url = new URL(request.url ?? '/', 'http://localhost');
    if (url.pathname === '/metrics' && request.method === 'GET') {
      send(response, 200, options.metrics.contentType, await options.metrics.metrics());
      return;
    }
    const { status, run } = findRoute(request.method ?? '', url.pathname, url.searchParams);
    const result = await run(options.subject, await readBody(request));
    send(response, status, 'application/json', `${JSON.stringify(result)}\n`);
  } catch (error) {
    const failure = asFailure(error, options.log);
    const { code, what, why, hint, exit } = failure;
    // What was not read of the request cannot be told from the next one.
    if (!request.complete) response.setHeader('connection', 'close');
    send(response, statusOf(failure), 'application/json', `${JSON.stringify({ error: { code, what, why, hint, exit } })}\n`);
  }
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, { 'content-type': contentType, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_BODY) throw badRequest(`the body has more than ${MAX_BODY.toString()} bytes`);
    parts.push(part);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown;
  } catch {
    throw badRequest('the body is not JSON');
  }
}

function asFailure(error: unknown, log: Logger): Failure {
  if (error instanceof Failure) return error;
  log.error('a request failed', { reason: reasonOf(error), stack: error instanceof Error ? error.stack : undefined });
  return new Failure({ code: 'failed', what: 'the request', why: reasonOf(error), hint: "the daemon's log tells more", exit: EXIT.failed });
}
