// Listening sockets: UNIX sockets with safe permissions, and TCP on the loopback address.
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';

/** Where to listen. */
export type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/** A socket that accepts connections. */
export interface Listener {
  /** Stops accepting; a UNIX socket's file goes. Connections that were accepted live on. */
  close(): void;
}

const SOCKET_MODE = 0o600;
// sun_path has 108 bytes with its final zero; what is longer would be cut off silently.
const MAX_SOCKET_PATH = 107;

/**
 * Listens at `address`; `accept` gets each connection, half-open capable. With `paused` nothing is read of a connection until somebody asks
 * for it. Rejects with a {@link Failure}.
 */
export async function listen(address: Address, accept: (socket: Socket) => void, paused = false): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: paused }, accept);
  try {
    if ('path' in address) await prepareUnixPath(address.path);
    await bind(server, address);
    if ('path' in address) await chmod(address.path, SOCKET_MODE);
  } catch (error) {
    server.close();
    throw error instanceof Failure ? error : listenFailure(address, error);
  }
  // Without a listener a failing accept (no descriptor left) would end the process; the peer sees a closed connection.
  server.on('error', () => undefined);
  return { close: () => server.close() };
}

/** Checks the length of a socket's path and removes the file that a killed daemon left. The caller owns the directory. */
export async function prepareUnixPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new Failure({
      code: 'socket_path_too_long',
      what: `listening on ${path}`,
      why: `a UNIX socket's path can have ${MAX_SOCKET_PATH.toString()} bytes`,
      hint: 'use a shorter --run-dir or a shorter name',
      exit: EXIT.failed,
    });
  }
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSocket() === true) await unlink(path);
}

function bind(server: Server, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function listenFailure(address: Address, error: unknown): Failure {
  const place = 'path' in address ? address.path : `${address.host}:${address.port.toString()}`;
  const inUse = systemCode(error) === 'EADDRINUSE';
  return new Failure(
    {
      code: inUse ? 'address_in_use' : 'cannot_listen',
      what: `listening on ${place}`,
      why: inUse ? 'the address is in use' : reasonOf(error),
      hint: 'path' in address ? 'check the directory and its permissions' : 'choose another port',
      exit: EXIT.failed,
    },
    { cause: error },
  );
}
