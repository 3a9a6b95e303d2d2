// One control connection: the descriptors that came on it, the machine behind it, the state blob that it reads.
import { Socket } from 'node:net';
import { closeFd } from '../native/index.js';
import type { StatePart } from '../vtpm/guest-tpm.js';
import type { Connection } from './connection.js';
import type { GuestLink } from './guest-link.js';

/** How {@link ControlSession.attach} went. */
export type Attachment = 'attached' | 'no descriptor' | 'attached before';

/** What the requests of one control connection share. */
export class ControlSession {
  readonly link: GuestLink;
  /** Came, and was not taken by a request yet. */
  private descriptor: number | undefined;
  private readonly serveData: (socket: Socket, onCommand: () => void) => Connection | undefined;
  private data: { readonly connection: Connection; open: boolean } | undefined;
  /** The power was cycled since the machine last did something. */
  private shutDown = false;
  /** What GET_STATEBLOB is giving out, piece by piece. */
  private reading: { readonly part: StatePart; readonly blob: Buffer } | undefined;

  /** @param serveData serves TPM commands on a socket and tells of each; undefined, and the socket closed, if there are too many */
  constructor(link: GuestLink, serveData: (socket: Socket, onCommand: () => void) => Connection | undefined) {
    this.link = link;
    this.serveData = serveData;
  }

  /** Takes descriptors that have come with the bytes that come next. No request has more than one: only the last is kept. */
  receive(fds: readonly number[]): void {
    for (const fd of fds) {
      this.dropDescriptor();
      this.descriptor = fd;
    }
  }

  /** SET_DATAFD: the machine sends its TPM commands on the descriptor that has come; the TPM is its own from now on. */
  attach(): Attachment {
    const fd = this.descriptor;
    this.descriptor = undefined;
    if (fd === undefined) return 'no descriptor';
    if (this.data?.open === true) {
      closeFd(fd);
      return 'attached before';
    }
    const socket = socketOf(fd);
    const connection =
      socket &&
      this.serveData(socket, () => {
        this.begin();
      });
    if (connection === undefined) return 'no descriptor';
    const data = { connection, open: true };
    socket?.once('close', () => {
      data.open = false;
    });
    this.data = data;
    this.link.turn.take(this);
    return 'attached';
  }

  /** The machine does something: what it leaves behind has to be cleaned up again. */
  begin(): void {
    this.shutDown = false;
  }

  /** SHUTDOWN: the machine's use of the TPM ends. The next one finds the TPM as after power-on. */
  async shutdown(): Promise<void> {
    await this.powerCycle();
    this.shutDown = true;
  }

  /** The connection has ended. `leave` is true if the TPM is to stay as it is, because it is going to be closed itself. */
  async end(leave: boolean): Promise<void> {
    this.dropDescriptor();
    this.reading = undefined;
    if (this.data === undefined) return;
    // Nobody waits for the answer of a command that runs.
    if (this.data.open) this.link.tpm.cancel();
    await this.data.connection.finish(0);
    if (!leave && !this.shutDown) await this.powerCycle();
    this.link.turn.release(this);
  }

  /** A state blob from `offset` on. It is made anew at offset 0. */
  async readState(part: StatePart, offset: number): Promise<{ total: number; piece: Buffer }> {
    if (offset === 0 || this.reading?.part !== part) this.reading = { part, blob: await this.link.tpm.getState(part) };
    const { blob } = this.reading;
    if (offset >= blob.length) this.reading = undefined;
    return { total: blob.length, piece: blob.subarray(offset) };
  }

  private dropDescriptor(): void {
    if (this.descriptor !== undefined) closeFd(this.descriptor);
    this.descriptor = undefined;
  }

  private async powerCycle(): Promise<void> {
    const { link } = this;
    if (link.tpm.powered) await link.tpm.powerOff();
    await link.tpm.powerOn();
    link.locality = 0;
  }
}

/** A socket over a descriptor of a peer, which belongs to it from now on; undefined, and the descriptor closed, if it is none. */
function socketOf(fd: number): Socket | undefined {
  try {
    return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  } catch {
    closeFd(fd);
    return undefined;
  }
}
