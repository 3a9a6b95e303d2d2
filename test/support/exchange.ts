import net from 'node:net';
import type { Endpoint } from './swtpm.js';

/** The peer has closed the connection instead of answering. */
export class PeerClosed extends Error {}

/** One connection on which requests and answers alternate. */
export class Exchange {
  private readonly socket: net.Socket;
  private received = Buffer.alloc(0);
  private waiter:
    | { readonly size: (bytes: Buffer) => number; readonly resolve: (answer: Buffer) => void; readonly reject: (error: Error) => void }
    | undefined;

  constructor(endpoint: Endpoint) {
    this.socket = net.connect(endpoint);
    this.socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      const { waiter } = this;
      if (waiter === undefined || this.received.length < waiter.size(this.received)) return;
      const answer = this.received;
      this.received = Buffer.alloc(0);
      this.waiter = undefined;
      waiter.resolve(answer);
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.waiter?.reject(new PeerClosed('the peer closed the connection'));
    });
  }

  /** `size` tells from the first bytes how many the answer has. */
  send(request: Buffer, size: (bytes: Buffer) => number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.waiter = { size, resolve, reject };
      this.socket.write(request);
    });
  }

  /** Rejects what waits for an answer. */
  close(): void {
    this.waiter = undefined;
    this.socket.destroy();
  }
}

/** Size of a response frame, from its first bytes. */
export const responseSize = (bytes: Buffer): number => (bytes.length < 10 ? 10 : bytes.readUInt32BE(2));
