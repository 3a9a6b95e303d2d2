// A UNIX socket on which somebody else listens, such as QEMU for a console with `connection=socket`.
import { connect, type Socket } from 'node:net';
import type { Line, LinePlace } from './line.js';

/** The socket at `path`, to which each opening connects. */
export function consoleSocket(path: string): LinePlace {
  return { kind: 'console-socket', path, open: () => openSocket(path) };
}

async function openSocket(path: string): Promise<Line> {
  const socket = connect({ path });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return new SocketLine(socket);
}

class SocketLine implements Line {
  private readonly pieces: AsyncIterator<Buffer>;

  constructor(private readonly socket: Socket) {
    // The reader sees what an error means: the end of the line.
    socket.on('error', () => undefined);
    this.pieces = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  async read(): Promise<Buffer | undefined> {
    const next = await this.pieces.next().catch(() => undefined);
    return next === undefined || next.done === true ? undefined : next.value;
  }

  write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  close(): Promise<void> {
    this.socket.destroy();
    return Promise.resolve();
  }
}
