// A client of a guest's sockets, for tests.
import assert from 'node:assert/strict';
import { connect, type NetConnectOpts, Socket } from 'node:net';
import { closeFd, sendWithFds, socketPair } from '../../src/native/index.js';
import type { Execute } from '../support/frames.js';

/** A client that knows how many bytes it waits for. */
export class Peer {
  received = Buffer.alloc(0);
  closed = false;
  private wake: () => void = () => undefined;

  constructor(readonly socket: Socket) {
    socket.on('data', (data: Buffer) => {
      this.received = Buffer.concat([this.received, data]);
      this.wake();
    });
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.closed = true;
        this.wake();
      });
    }
    socket.on('error', () => undefined);
  }

  static async to(address: NetConnectOpts): Promise<Peer> {
    const socket = connect({ ...address, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Peer(socket);
  }

  async take(size: number): Promise<Buffer> {
    await this.until(() => this.received.length >= size);
    const taken = this.received.subarray(0, size);
    this.received = this.received.subarray(size);
    return taken;
  }

  async ask(hex: string, size: number): Promise<string> {
    this.socket.write(Buffer.from(hex, 'hex'));
    return (await this.take(size)).toString('hex');
  }

  /** Sends bytes with descriptors beside them. */
  sendWithFds(hex: string, fds: readonly number[]): void {
    const { _handle: handle } = this.socket as unknown as { _handle: { fd: number } };
    sendWithFds(handle.fd, Buffer.from(hex, 'hex'), fds);
  }

  async end(): Promise<void> {
    await this.until(() => this.closed);
  }

  private async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      assert.ok(!this.closed, 'closed by the other side');
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

/** Commands on a connection. */
export function executeOver(peer: Peer): Execute {
  return async (bytes) => {
    peer.socket.write(bytes);
    const header = await peer.take(10);
    return Buffer.concat([header, await peer.take(header.readUInt32BE(2) - 10)]);
  };
}

/** A machine: a control connection that handed a data connection over. */
export interface PeerMachine {
  readonly channel: Peer;
  readonly data: Peer;
}

/** Does what QEMU does first. */
export async function attachMachine(control: string): Promise<PeerMachine> {
  const channel = await Peer.to({ path: control });
  const [mine, theirs] = socketPair();
  channel.sendWithFds('00000010', [theirs]);
  closeFd(theirs);
  assert.equal((await channel.take(4)).toString('hex'), '00000000');
  return { channel, data: new Peer(new Socket({ fd: mine, readable: true, writable: true })) };
}
