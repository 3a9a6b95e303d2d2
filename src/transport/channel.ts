// A connection's descriptor and its exchange: bytes in and out that are not lost when another process takes over.
import { closeFd, describeSocket, DescriptorWatch, type ExchangeMemory, hasInput, shutdownSocket } from '../native/index.js';

/** One connection. */
export class Channel {
  private readonly watch: DescriptorWatch;
  private ended = false;

  /**
   * Takes `fd` and `exchange` over. Throws, with both closed, if `fd` is no connected stream socket.
   * @param borrowed somebody else decides when the connection ends for its peer: {@link close} is {@link leave}
   */
  constructor(
    fd: number,
    readonly exchange: ExchangeMemory,
    private readonly borrowed = false,
  ) {
    try {
      const socket = describeSocket(fd);
      if (socket?.stream !== true || socket.listening) throw new Error('the descriptor is no stream socket');
      this.watch = new DescriptorWatch(fd);
    } catch (error) {
      exchange.close();
      throw error;
    } finally {
      closeFd(fd);
    }
  }

  get fd(): number {
    return this.watch.fd;
  }

  get closed(): boolean {
    return this.ended;
  }

  /**
   * The next piece of input, with the descriptors beside it, which are the caller's; they are dropped unless asked for. Undefined when the
   * peer has ended its side, or the channel is closed.
   */
  async receive(withDescriptors: boolean): Promise<{ data: Buffer; fds: readonly number[] } | undefined> {
    while (!this.ended && (await this.watch.readable())) {
      const received = this.exchange.receive(this.watch.fd, withDescriptors);
      if (received === null) continue;
      if (received.data.length > 0) return received;
      received.fds.forEach(closeFd);
      return undefined;
    }
    return undefined;
  }

  /** Whether the peer has sent something that was not taken yet. */
  get hasInput(): boolean {
    return !this.ended && hasInput(this.watch.fd);
  }

  /** Sends what is left of the exchange's response; resolves when the kernel has taken it, the peer is gone or the channel is closed. */
  async flush(): Promise<void> {
    while (!this.ended) {
      const left = this.sendSome();
      if (left === 0) return;
      if (left === undefined && !(await this.watch.writable())) return;
    }
  }

  /** Bytes left; undefined when the kernel takes none now. */
  private sendSome(): number | undefined {
    try {
      return this.exchange.send(this.watch.fd);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return undefined;
      throw error;
    }
  }

  /** Ends the connection for its peer. What {@link flush} sent still arrives. Closing twice is one close. */
  close(): void {
    if (this.ended) return;
    if (!this.borrowed) shutdownSocket(this.watch.fd);
    this.leave();
  }

  /** Gives the connection up; whoever else has its descriptor goes on. The exchange stays as it is. */
  leave(): void {
    if (this.ended) return;
    this.ended = true;
    this.watch.close();
    this.exchange.close();
  }
}
