// The compiled addon (native/*.cc), as it is; the other files of this folder check arguments and errors.
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** What a request to the addon's TCTI rejects with: `code` is a TSS2_RC, the message tpm2-tss's words for it. */
export interface NativeRcError extends Error {
  readonly code: number;
}

/** native/tcti.cc. Every promise may reject with {@link NativeRcError}. */
export interface NativeTcti {
  open(configuration: string): Promise<void>;
  transceive(command: Uint8Array): Promise<Buffer>;
  setLocality(locality: number): Promise<void>;
  cancel(): Promise<void>;
  close(): Promise<void>;
  /** What is in flight no longer keeps the process alive. */
  abandon(): void;
}

/** native/watch.cc. A number below zero is `-errno`. */
export interface NativeWatch {
  error(): number;
  descriptor(): number;
  once(callback: () => void, writable: boolean): number;
  close(): void;
}

/** native/exchange.cc. A number below zero is `-errno`. */
export interface NativeExchangeMemory {
  error(): number;
  descriptor(): number;
  receive(fd: number, withDescriptors: boolean): { data: Buffer; fds: number[] } | number;
  input(): Buffer;
  view(): { phase: number; request: number; token: number; note: number };
  begin(size: number, token: number): number;
  effect(): number;
  answer(response: Uint8Array): number;
  send(fd: number): number;
  done(note: number): number;
  setNote(note: number): number;
  close(): void;
}

/** What the addon exports. A number below zero is `-errno`. */
export interface NativeAddon {
  readonly ExchangeMemory: new (fd: number, inSize: number, outSize: number, kept: boolean) => NativeExchangeMemory;
  readonly Tcti: new () => NativeTcti;
  readonly Watch: new (fd: number) => NativeWatch;
  recvWithFds(fd: number, maxBytes: number): { data: Buffer; fds: number[] } | number;
  sendWithFds(fd: number, data: Uint8Array, fds: readonly number[]): number;
  peerCredentials(fd: number): { pid: number; uid: number; gid: number } | number;
  socketPair(): [number, number] | number;
  quickAck(fd: number): number;
  hasInput(fd: number): number;
  closeFd(fd: number): number;
  vtpmProxyDevice(path: string): { fd: number; number: number; major: number; minor: number } | number;
  sendDatagram(path: string, data: Uint8Array, fds: readonly number[], wait: boolean): number;
  listenUnix(path: string): number;
  bindDatagram(path: string): number;
  describeSocket(fd: number): { stream: boolean; listening: boolean; path?: string; host?: string; port?: number } | number;
  shutdownSocket(fd: number): number;
  duplicateFd(fd: number): number;
  setCloseOnExec(fd: number): number;
}

// The same from src/native (run with tsx) and from dist/native.
const addonPath = '../../build/Release/tpmux.node';

function load(): NativeAddon {
  try {
    return createRequire(import.meta.url)(addonPath) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error);
    throw new Error(`the native addon cannot be loaded : ${reason} (run scripts/setup, or npm run build)`, { cause: error });
  }
}

let loaded: NativeAddon | undefined;

/** The addon, loaded at the first use: what needs no TPM runs without it. Throws an Error that says how to build it. */
export function addon(): NativeAddon {
  loaded ??= load();
  return loaded;
}

/** An Error like Node's own for a system call that returned `-errno`: `code` (`EBADF`), `errno`, `syscall`. */
export function systemError(result: number, syscall: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(result);
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: result, syscall });
}
