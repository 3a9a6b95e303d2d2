// A tty: serial port, virtio or Xen console, PTY. serialport opens it exclusively (flock) and raw (no echo, no line editing).
import { readSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { SerialPort } from 'serialport';
import { reasonOf, systemCode } from '../../failure.js';
import type { Line, LinePlace } from './line.js';
import { processOnTty } from './tty-users.js';

/** Real lines are 8N1 at this rate; PTYs and virtual consoles do not care. */
const BAUD_RATE = 115_200;
const READ_BYTES = 4096;
const WRITE_RETRY_MS = 5;

/** The tty at `path`, which may be a symbolic link that changes. */
export function tty(path: string): LinePlace {
  return { kind: 'serial', path, open: () => openTty(path) };
}

async function openTty(path: string): Promise<Line> {
  // A number in /dev/pts may belong to someone's login by now; a serial port may have a getty.
  const { rdev } = await stat(path).catch((error: unknown) => {
    throw new Error(systemCode(error) ?? reasonOf(error), { cause: error });
  });
  const user = await processOnTty(rdev);
  if (user !== undefined) throw new Error(`it is the terminal of process ${user.toString()}`);
  return new TtyLine((await SerialPort.binding.open({ path, baudRate: BAUD_RATE, lock: true })) as OpenTty);
}

/** What serialport gives on Linux, as far as it is used. */
interface OpenTty {
  readonly fd: number | null;
  readonly poller: { once(event: 'readable', seen: (error: Error | null) => void): unknown };
  flush(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Reads and writes itself: serialport takes a tty that was hung up (0 bytes) for one with nothing to read and asks again without end,
 * and its poller forgets a reader when a writer waits.
 */
class TtyLine implements Line {
  private closed = false;
  private writing = false;

  constructor(private readonly port: OpenTty) {}

  async read(): Promise<Buffer | undefined> {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      const error = await this.readable();
      const { fd } = this.port;
      if (this.closed || fd === null) return undefined;
      const size = attempt(() => readSync(fd, buffer));
      if (size === 0 || size === 'gone') return undefined;
      if (size !== 'later') return buffer.subarray(0, size);
      if (error !== null) return undefined;
    }
  }

  async write(bytes: Buffer): Promise<void> {
    let rest = bytes;
    this.writing = true;
    try {
      while (rest.length > 0) {
        const { fd } = this.port;
        const taken = this.closed || fd === null ? 'gone' : attempt(() => writeSync(fd, rest));
        if (taken === 'gone') throw new Error('the tty is gone');
        if (taken === 'later') await delay(WRITE_RETRY_MS);
        else rest = rest.subarray(taken);
      }
    } finally {
      this.writing = false;
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    // What nobody reads would keep the close of a real line waiting for half a minute. An answer that the line has taken is on its way.
    if (this.writing) await this.port.flush().catch(() => undefined);
    await this.port.close().catch(() => undefined);
  }

  /** Waits for something to read, or an error: a hang-up, after which what was sent before can still be read, or the close. */
  private readable(): Promise<Error | null> {
    if (this.closed) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.port.poller.once('readable', resolve);
    });
  }
}

/** One system call that does not wait. */
function attempt(call: () => number): number | 'later' | 'gone' {
  try {
    return call();
  } catch (error) {
    const code = systemCode(error);
    return code === 'EAGAIN' || code === 'EINTR' ? 'later' : 'gone';
  }
}
