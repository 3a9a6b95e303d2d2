// TSS 2.0 TPM Command Transmission Interface (TCTI): one connection to a TPM through tpm2-tss.
import { accessSync, constants, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { addon, type NativeRcError, type NativeTcti } from './addon.js';
import { TctiError, TSS2_TCTI_RC } from './tcti-error.js';

/** Most bytes of a command or a response. */
export const MAX_FRAME_BYTES = 4096;
const HEADER_BYTES = 10;
/** How long close waits for the thread of a connection that can't be interrupted. */
const CLOSE_GRACE_MS = 250;

interface InFlight {
  readonly reject: (error: TctiError) => void;
}

/**
 * A connection to a TPM: one command at a time, in a thread of its own, so a chip that takes seconds delays neither
 * the event loop nor libuv's pool. An open connection does not keep the process alive; a command in flight does.
 *
 * After a command has failed with a {@link TctiError} or has timed out, nobody knows what the TPM will send next:
 * the connection is no longer {@link usable} and serves only to be closed; open another one.
 */
export class Tcti {
  readonly configuration: string;
  private readonly native: NativeTcti;
  private inFlight: InFlight | undefined;
  private broken: TctiError | undefined;
  private closing: Promise<void> | undefined;

  private constructor(configuration: string, native: NativeTcti) {
    this.configuration = configuration;
    this.native = native;
  }

  /**
   * Connects to the TPM that a TCTI string of tpm2-tss names (`device:/dev/tpm0`, `swtpm:path=…`, `tabrmd`). Rejects
   * with a {@link TctiError} when the library, the device or the peer is not there; BAD_VALUE when the device is a file of another kind,
   * to which nothing is written then.
   */
  static async open(configuration: string): Promise<Tcti> {
    if (configuration === '' || configuration.includes('\0'))
      throw new TypeError('a TCTI configuration such as device:/dev/tpm0 is needed');
    requireCharacterDevice(configuration);
    const native = new (addon().Tcti)();
    const unmute = muteLibrary();
    try {
      await native.open(configuration);
    } catch (error) {
      await native.close();
      throw tctiError(error, `cannot open TCTI ${configuration}${describeAccess(configuration)}`);
    } finally {
      unmute();
    }
    return new Tcti(configuration, native);
  }

  /** Whether a command can be sent, now or when the one in flight has been answered. */
  get usable(): boolean {
    return this.broken === undefined && this.closing === undefined;
  }

  /**
   * Sends `command` (10 to 4096 bytes, with the right size in its header) and resolves with the TPM's response, 10
   * to 4096 bytes whose header gives their number; a TPM_RC in it is not looked at. Rejects with a {@link TctiError}:
   * BAD_SEQUENCE when another command is in flight, BAD_CONTEXT when closed (also while waiting), NO_CONNECTION when
   * not usable, TRY_AGAIN when `timeout` milliseconds have passed without an answer, MALFORMED_RESPONSE, or what
   * tpm2-tss said. A TypeError is the caller's bug, and nothing was sent.
   */
  async transceive(command: Uint8Array, timeout?: number): Promise<Buffer> {
    checkFrame(command);
    this.begin();
    let timer: NodeJS.Timeout | undefined;
    const interrupted = new Promise<never>((_resolve, reject) => {
      this.inFlight = { reject };
      if (timeout === undefined) return;
      timer = setTimeout(() => {
        reject(new TctiError(TSS2_TCTI_RC.TRY_AGAIN, `no answer from ${this.configuration} within ${timeout.toString()} ms`));
      }, timeout);
    });
    try {
      return checkResponse(await Promise.race([this.native.transceive(command), interrupted]));
    } catch (error) {
      this.broken = tctiError(error, `command to ${this.configuration} failed`);
      throw this.broken;
    } finally {
      clearTimeout(timer);
      this.inFlight = undefined;
    }
  }

  /**
   * Asks the TPM to give up the command in flight, whose promise then resolves with `TPM_RC_CANCELED` or with its
   * ordinary response. Rejects with a {@link TctiError}: NOT_IMPLEMENTED (device, swtpm), BAD_SEQUENCE when no
   * command is in flight, BAD_CONTEXT when closed.
   */
  async cancel(): Promise<void> {
    if (this.closing !== undefined) throw closedError(this.configuration);
    await this.native.cancel().catch((error: unknown) => {
      throw tctiError(error, `cannot cancel a command to ${this.configuration}`);
    });
  }

  /**
   * Sets the locality (0 to 4, or 32 to 255) of the commands that follow. Rejects with a {@link TctiError}:
   * NOT_IMPLEMENTED (device), otherwise as {@link transceive}.
   */
  async setLocality(locality: number): Promise<void> {
    if (!Number.isInteger(locality) || locality < 0 || locality > 255 || (locality > 4 && locality < 32)) {
      throw new TypeError(`not a locality: ${locality.toString()}`);
    }
    this.begin();
    await this.native.setLocality(locality).catch((error: unknown) => {
      throw tctiError(error, `cannot set the locality of ${this.configuration}`);
    });
  }

  /**
   * Ends the connection; a command in flight rejects at once with BAD_CONTEXT. Resolves when everything is
   * released, or after a quarter of a second when the TCTI can't be interrupted (swtpm): its thread then ends, and
   * closes its socket, when the TPM answers or hangs up. Never rejects; closing twice is one close.
   */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    this.inFlight?.reject(closedError(this.configuration));
    const grace = new AbortController();
    const closed = this.native.close().finally(() => {
      grace.abort();
    });
    await Promise.race([closed, delay(CLOSE_GRACE_MS, undefined, { signal: grace.signal }).catch(() => undefined)]);
    this.native.abandon();
  }

  private begin(): void {
    if (this.closing !== undefined) throw closedError(this.configuration);
    if (this.broken !== undefined) {
      throw new TctiError(TSS2_TCTI_RC.NO_CONNECTION, `the connection to ${this.configuration} has failed`, { cause: this.broken });
    }
    if (this.inFlight !== undefined) {
      throw new TctiError(TSS2_TCTI_RC.BAD_SEQUENCE, `another command to ${this.configuration} is in flight`);
    }
  }
}

function closedError(configuration: string): TctiError {
  return new TctiError(TSS2_TCTI_RC.BAD_CONTEXT, `the connection to ${configuration} is closed`);
}

function tctiError(error: unknown, what: string): TctiError {
  if (error instanceof TctiError) return error;
  if (error instanceof Error && typeof (error as Partial<NativeRcError>).code === 'number') {
    return new TctiError((error as NativeRcError).code, `${what} : ${error.message}`, { cause: error });
  }
  return new TctiError(TSS2_TCTI_RC.GENERAL_FAILURE, `${what} : ${String(error)}`, { cause: error });
}

function checkFrame(command: Uint8Array): void {
  const { length } = command;
  if (length < HEADER_BYTES || length > MAX_FRAME_BYTES) throw new TypeError(`a command has 10 to 4096 bytes, not ${length.toString()}`);
  const size = sizeField(command);
  if (size !== length) throw new TypeError(`the command's header says ${size.toString()} bytes, but it has ${length.toString()}`);
}

function checkResponse(response: Buffer): Buffer {
  if (response.length >= HEADER_BYTES && sizeField(response) === response.length) return response;
  throw new TctiError(
    TSS2_TCTI_RC.MALFORMED_RESPONSE,
    `the response's size (${response.length.toString()} bytes) disagrees with its header`,
  );
}

function sizeField(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset, frame.byteLength).getUint32(2);
}

/** The device TCTI by its name or its library's, also behind a TCTI that passes everything on (`pcap:device:…`). */
const DEVICE_TCTI = /(?:^|[:/])(?:libtss2-tcti-)?device(?:\.so[.\d]*)?(?::(.*))?$/;
/** What the device TCTI opens when it is not told. */
const DEFAULT_DEVICES = ['/dev/tpmrm0', '/dev/tpm0'];

/** tpm2-tss opens any file as a TPM and writes commands over its contents. */
function requireCharacterDevice(configuration: string): void {
  const match = DEVICE_TCTI.exec(configuration);
  if (match === null) return;
  for (const path of match[1] === undefined || match[1] === '' ? DEFAULT_DEVICES : [match[1]]) {
    if (isOtherFile(path)) {
      throw new TctiError(TSS2_TCTI_RC.BAD_VALUE, `cannot open TCTI ${configuration} : ${path} is not a character device`);
    }
  }
}

/** Whether there is something else than a character device. What cannot be looked at cannot be opened either, which tpm2-tss tells. */
function isOtherFile(path: string): boolean {
  try {
    return !statSync(path).isCharacterDevice();
  } catch {
    return false;
  }
}

/** Why the file that a TCTI string names can't be used, which tpm2-tss does not tell: ` (EACCES)`. */
function describeAccess(configuration: string): string {
  const path = /^(?:device:|swtpm:path=)(.+)$/.exec(configuration)?.[1];
  if (path === undefined) return '';
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return '';
  } catch (error) {
    return ` (${String((error as NodeJS.ErrnoException).code)})`;
  }
}

let opening = 0;

/**
 * tpm2-tss writes to standard error what TctiError says too. It reads TSS2_LOG once for each library, while opening,
 * so it is set just then, unless the user did; child processes are not to inherit it.
 */
function muteLibrary(): () => void {
  if (opening === 0 && process.env['TSS2_LOG'] !== undefined) return () => undefined;
  opening += 1;
  process.env['TSS2_LOG'] = 'all+none';
  return () => {
    opening -= 1;
    if (opening === 0) delete process.env['TSS2_LOG'];
  };
}
