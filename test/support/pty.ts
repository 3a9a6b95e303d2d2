// A PTY whose other side the test holds, as QEMU and Xen hold it for their guests: socat, its standard streams on one side.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { lstat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

export class Pty {
  received: Buffer = Buffer.alloc(0);

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.on('data', (data: Buffer) => {
      this.received = Buffer.concat([this.received, data]);
    });
  }

  /** A PTY that can be opened at `path`; `options` are socat's for the tty (`rawer`, `echo=1,icanon=1`). */
  static async open(path: string, options = 'rawer'): Promise<Pty> {
    const child = spawn('socat', ['-b', '65536', 'STDIO', `PTY,link=${path},${options}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    const pty = new Pty(child);
    while ((await lstat(path).catch(() => undefined)) === undefined) {
      if (child.exitCode !== null) throw new Error('socat ended (is it installed?)');
      await sleep(5);
    }
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

  async take(size: number, milliseconds = 5000): Promise<Buffer> {
    const end = Date.now() + milliseconds;
    while (this.received.length < size) {
      if (Date.now() > end) throw new Error(`only ${this.received.length.toString()} of ${size.toString()} bytes came`);
      await sleep(5);
    }
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
