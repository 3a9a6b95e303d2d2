// One daemon per directory. The lock is an abstract UNIX socket, which the kernel releases however its holder ends.
import { stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { EXIT, Failure, systemCode } from '../failure.js';

/** A held lock. */
export interface DirectoryLock {
  release(): Promise<void>;
}

// The whole of sun_path is used: then it does not matter whether a Node version pads abstract names with zeros.
const NAME_SIZE = 107;

/**
 * Locks an existing directory, known by device and inode, so that every path to it is the same lock. Abstract names belong to a
 * network namespace: two containers that share the directory but not the network do not see each other.
 * @param role what the directory is, in words: `state directory`
 */
export async function lockDirectory(directory: string, role: string): Promise<DirectoryLock> {
  const { dev, ino } = await stat(directory);
  const name = `tpmux:${role.replaceAll(' ', '-')}:${dev.toString()}:${ino.toString()}:`.padEnd(NAME_SIZE, '.');
  const server = createServer((socket) => socket.destroy());
  try {
    await listen(server, `\0${name}`);
  } catch (error) {
    if (systemCode(error) !== 'EADDRINUSE') throw error;
    throw new Failure({
      code: 'already_running',
      what: `using the ${role} ${directory}`,
      why: 'another tpmux daemon uses it',
      hint: `stop that daemon first, or give this one its own ${role}`,
      exit: EXIT.failed,
    });
  }
  server.unref();
  return {
    release: () =>
      new Promise((resolve) =>
        server.close(() => {
          resolve();
        }),
      ),
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
