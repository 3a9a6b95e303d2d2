// A PTY whose other side the test holds, as QEMU and Xen hold it for their guests: socat, its standard streams on one side.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { waitFor } from './wait-for.js';

export class Pty {
  received: Buffer = Buffer.alloc(0);

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.on('data', (data: Buffer) => {
      this.received = Buffer.concat([this.received, data]);
    });
  }

  /** A PTY that can be opened at `path`; `options` are socat's for the tty (`rawer`, `echo=1,icanon=1`). */
  static async open(path: string, options = 'rawer'): Promise<Pty> {
    const child = spawn('socat', ['-d', '-d', '-b', '65536', 'STDIO', `PTY,link=${path},${options}`], { stdio: 'pipe' });
    const pty = new Pty(child);
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    // The link comes before the options are set, which would overwrite what whoever opens the tty has set.
    await waitFor(
      () => log.includes('starting data transfer loop') || child.exitCode !== null,
      () => log,
    );
    if (child.exitCode !== null) throw new Error(`socat ended: ${log}`);
    return pty;
  }

  write(bytes: Buffer): void {
    this.child.stdin?.write(bytes);
  }

  /** Nothing more is read of what comes from the tty. */
  stall(): void {
    this.child.kill('SIGSTOP');
  }

  resume(): void {
    this.child.kill('SIGCONT');
  }

  async take(size: number): Promise<Buffer> {
    await waitFor(
      () => this.received.length >= size,
      () => `only ${this.received.length.toString()} of ${size.toString()} bytes came`,
    );
    const taken = this.received.subarray(0, size);
    this.received = this.received.subarray(size);
    return taken;
  }

  /** Hangs up; the path goes. */
  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGCONT');
    this.child.kill('SIGTERM');
    await once(this.child, 'exit');
  }
}
