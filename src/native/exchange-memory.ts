// What one connection has going on, in memory that can outlive the process: native/exchange-memory.cc.
import { addon, systemError, type NativeExchangeMemory } from './addon.js';
import { checkFd, type Received } from './descriptors.js';

/** How it stands with the request at the beginning of the input; with `effect` something of it may have happened. */
export type ExchangePhase = 'idle' | 'executing' | 'effect' | 'answered';

const PHASES: readonly ExchangePhase[] = ['idle', 'executing', 'effect', 'answered'];

/** Most bytes of input that is not answered yet, and of a response. */
export interface ExchangeSizes {
  readonly input: number;
  readonly response: number;
}

/**
 * Unanswered input, and the response that is being sent. A system call that moves bytes records how many in this memory, within the call: a
 * process that takes over after a `kill -9` goes on at the same byte. After {@link close} nothing happens any more.
 */
export class ExchangeMemory {
  private closed = false;

  private constructor(private readonly native: NativeExchangeMemory) {}

  /** A new one, in a memfd if it is to be `kept`. Throws an Error with `code`, `errno` and `syscall`. */
  static create(sizes: ExchangeSizes, kept: boolean): ExchangeMemory {
    return ExchangeMemory.open(-1, sizes, kept);
  }

  /**
   * Takes over `fd`, which is closed if this throws: `EINVAL` if it is not the memory of an exchange of these sizes, or of a version that has
   * another layout.
   */
  static adopt(fd: number, sizes: ExchangeSizes): ExchangeMemory {
    checkFd(fd);
    return ExchangeMemory.open(fd, sizes, true);
  }

  private static open(fd: number, { input, response }: ExchangeSizes, kept: boolean): ExchangeMemory {
    const native = new (addon().ExchangeMemory)(fd, input, response, kept);
    if (native.error() === 0) return new ExchangeMemory(native);
    native.close();
    throw systemError(native.error(), 'mmap');
  }

  /** The memory; undefined if it is not kept. It is closed by {@link close}. */
  get fd(): number | undefined {
    const fd = this.native.descriptor();
    return fd < 0 ? undefined : fd;
  }

  get phase(): ExchangePhase {
    return PHASES[this.native.view().phase] ?? 'idle';
  }

  /** Of the request at the beginning of the input, see {@link begin}. */
  get token(): number {
    return this.native.view().token;
  }

  /** 32 bits that are the owner's. */
  get note(): number {
    return this.native.view().note;
  }

  set note(value: number) {
    if (!this.closed) this.check(this.native.setNote(value), 'note');
  }

  /** A copy of the input that is not answered yet. */
  input(): Buffer {
    return this.native.input();
  }

  /**
   * Receives from `socket` behind what is there, without waiting: null when nothing has come. Empty data means that the peer has closed. Throws
   * as {@link recvWithFds}; `ENOBUFS` when there is no room.
   */
  receive(socket: number, withDescriptors: boolean): Received | null {
    const result = this.native.receive(socket, withDescriptors);
    if (typeof result !== 'number') return result;
    const error = systemError(result, 'recvmmsg');
    if (error.code === 'EAGAIN') return null;
    throw error;
  }

  /** The first `size` bytes of the input are a request, and are going to be executed; `token`, of 32 bits, is the owner's. */
  begin(size: number, token: number): void {
    if (!this.closed) this.check(this.native.begin(size, token), 'begin');
  }

  /** What the request does can outlive the process from now on. Until then whoever takes over knows that it had no effect. */
  effect(): void {
    if (!this.closed) this.check(this.native.effect(), 'effect');
  }

  /** The response to the request; `EMSGSIZE` if it is longer than was said. */
  answer(response: Uint8Array): void {
    if (!this.closed) this.check(this.native.answer(response), 'answer');
  }

  /** Sends what is left of the response without waiting; how many bytes are left. Throws as {@link sendWithFds}, `EAGAIN` too. */
  send(socket: number): number {
    return this.check(this.native.send(socket), 'sendmmsg');
  }

  /** The response is out: the request goes, and so that it goes with it, the note is set. */
  done(note: number): void {
    if (!this.closed) this.check(this.native.done(note), 'done');
  }

  /** Gives the memory up; somebody else may have it too. */
  close(): void {
    this.closed = true;
    this.native.close();
  }

  private check(result: number, what: string): number {
    if (result < 0) throw systemError(result, what);
    return result;
  }
}
