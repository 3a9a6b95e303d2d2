// Listening sockets: UNIX sockets with safe permissions, and TCP on the loopback address.
import { rmSync } from 'node:fs';
import { lstat, unlink } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';
import { duplicateFd, listenUnix, shutdownSocket, type SocketDescription } from '../native/index.js';

/** Where to listen. */
export type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/** A socket that accepts connections. */
export interface Listener {
  readonly fd: number;
  /** Stops accepting, whoever else has the descriptor too; a UNIX socket's file goes. Connections that were accepted live on. */
  close(): void;
  /** Gives the socket up: somebody else has the descriptor, and who connects waits for them. */
  leave(): void;
}

// sun_path has 108 bytes with its final zero; what is longer would be cut off silently.
const MAX_SOCKET_PATH = 107;

/**
 * Listens at `address`, on the descriptor `inherited` if there is one, which it takes over; `accept` gets the descriptor of each connection,
 * whose it is. A UNIX socket has mode 0600. Rejects with a {@link Failure}.
 */
export async function listen(address: Address, accept: (fd: number) => void, inherited?: number): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    handOver(socket, accept);
  });
  try {
    if (inherited !== undefined) await bind(server, { fd: inherited });
    else if ('path' in address) await bind(server, { fd: await listenAtPath(address.path) });
    else await bind(server, address);
  } catch (error) {
    server.close();
    throw error instanceof Failure ? error : listenFailure(address, error);
  }
  // Without a listener a failing accept (no descriptor left) would end the process; the peer sees a closed connection.
  server.on('error', () => undefined);
  const fd = descriptorOf(server);
  return {
    fd,
    close: () => {
      if (!server.listening) return;
      if ('path' in address) rmSync(address.path, { force: true });
      shutdownSocket(fd);
      server.close();
    },
    leave: () => server.close(),
  };
}

/** Whether a listening socket is the one at `address`; the file of a UNIX socket is there too. */
export async function listensAt({ listening, path, host, port }: SocketDescription, address: Address): Promise<boolean> {
  if (!listening) return false;
  if (!('path' in address)) return host === address.host && port === address.port;
  return path === address.path && (await lstat(address.path).catch(() => undefined))?.isSocket() === true;
}

/** Takes a connection out of Node's hands before it reads anything. */
function handOver(socket: Socket, accept: (fd: number) => void): void {
  socket.on('error', () => undefined);
  let fd: number | undefined;
  try {
    fd = duplicateFd(descriptorOf(socket));
  } catch {
    // No descriptor is left, or the peer is gone: the connection ends with the one that Node has.
  }
  socket.destroy();
  if (fd !== undefined) accept(fd);
}

/** The descriptor of a socket. Node does not document where it is, but has it there in every version. */
function descriptorOf(socket: Socket | Server): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } | null };
  return handle?.fd ?? -1;
}

async function listenAtPath(path: string): Promise<number> {
  await prepareUnixPath(path);
  return listenUnix(path);
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

function bind(server: Server, address: { readonly fd: number } | { readonly host: string; readonly port: number }): Promise<void> {
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
