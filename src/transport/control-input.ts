// What comes in on the UNIX control socket: bytes, and descriptors beside them (SCM_RIGHTS).
import type { Socket } from 'node:net';
import { DescriptorWatch, recvWithFds } from '../native/index.js';

/** Most bytes of one piece. */
const PIECE_SIZE = 1 << 18;

/**
 * The input of a connection that was accepted paused, piece by piece. Descriptors go to `takeDescriptors`, whose they are, before the bytes
 * that they came with. Ends when the peer has closed its side or `socket` is closed.
 */
export async function* receive(socket: Socket, takeDescriptors: (fds: readonly number[]) => void): AsyncGenerator<Buffer> {
  const watch = new DescriptorWatch(descriptorOf(socket));
  const close = (): void => {
    watch.close();
  };
  socket.once('close', close);
  try {
    while (await watch.readable()) {
      const received = recvWithFds(watch.fd, PIECE_SIZE);
      if (received === null) continue;
      takeDescriptors(received.fds);
      if (received.data.length === 0) return;
      yield received.data;
    }
  } finally {
    socket.off('close', close);
    close();
  }
}

/** The descriptor of a connected socket. Node does not document where it is, but has it there in every version. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } | null };
  return handle?.fd ?? -1;
}
