// One control connection: the descriptors that came on it, the machine behind it, the state blob that it reads.
import { setImmediate as turn } from 'node:timers/promises';
import { closeFd } from '../../native/index.js';
import type { StatePart } from '../../vtpm/guest-tpm.js';
import type { Connection, Ending } from '../connection.js';
import type { Holder } from './holder.js';
import type { GuestLink } from '../guest-link.js';

/** How {@link ControlSession.attach} went. */
export type Attachment = 'attached' | 'no descriptor' | 'attached before';

/** Has TPM commands on a descriptor served, which it takes over, and tells of each; undefined if it is no socket, or there are too many. */
export type ServeData = (fd: number, onCommand: () => void) => Connection | undefined;

/** How long the result of CANCEL_TPM_CMD waits for the answer of the command: the machine stands still meanwhile. */
const CANCEL_GRACE_MS = 500;
const MACHINE = 0x100;
const SHUT_DOWN = 0x200;

/** What the requests of one control connection share. */
export class ControlSession {
  readonly link: GuestLink;
  /** Is told of a change of {@link note}. */
  onNote: (note: number) => void = () => undefined;
  /** Came, and was not taken by a request yet. */
  private descriptor: number | undefined;
  private readonly serveData: ServeData;
  /** A machine has the TPM, or had it on a data connection that is gone. */
  private machine = false;
  private data: Connection | undefined;
  private waits = false;
  /** The power was cycled since the machine last did something. */
  private shutDown = false;
  /** What GET_STATEBLOB is giving out, piece by piece. */
  private reading: { readonly part: StatePart; readonly blob: Buffer } | undefined;

  constructor(
    link: GuestLink,
    serveData: ServeData,
    /** Who is at the other end. */
    readonly holder: Holder | undefined,
  ) {
    this.link = link;
    this.serveData = serveData;
  }

  /** Resolves when no other machine has the TPM. That it waits is told once. */
  async wait(): Promise<void> {
    const { lock } = this.link;
    const other = lock.heldBy;
    if (other !== undefined && other !== this && !this.waits) {
      this.waits = true;
      this.link.onWaiting(this.holder, other.holder);
    }
    await lock.wait(this);
  }

  /** What another daemon has to know to go on with the session, apart from the data connection. The lowest 8 bits are not used. */
  get note(): number {
    return (this.machine ? MACHINE : 0) | (this.shutDown ? SHUT_DOWN : 0);
  }

  /** Whether a machine has the TPM in a session with this note. */
  static hasMachine(note: number): boolean {
    return (note & MACHINE) !== 0;
  }

  /** Whether a session with this note leaves a TPM that has to be power-cycled when it ends. */
  static leavesTraces(note: number): boolean {
    return ControlSession.hasMachine(note) && (note & SHUT_DOWN) === 0;
  }

  /** Goes on with the session of another daemon. `attach` serves its data connection, if that is still there. */
  resume(note: number, attach: ((onCommand: () => void) => Connection | undefined) | undefined): void {
    this.shutDown = (note & SHUT_DOWN) !== 0;
    if (!ControlSession.hasMachine(note)) return;
    this.machine = true;
    this.data = attach?.(() => {
      this.begin();
    });
    this.link.lock.take(this);
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
    const connection = this.serveData(fd, () => {
      this.begin();
    });
    if (connection === undefined) return 'no descriptor';
    this.data = connection;
    this.machine = true;
    this.link.lock.take(this);
    return 'attached';
  }

  /** The machine does something: what it leaves behind has to be cleaned up again. */
  begin(): void {
    if (!this.shutDown) return;
    this.shutDown = false;
    this.onNote(this.note);
  }

  /**
   * CANCEL_TPM_CMD. The command is answered before this is, if that can be done in time: a machine (tpm-crb in QEMU) takes what comes
   * later for the answer to its next command.
   */
  async cancel(): Promise<void> {
    // The command was sent before, but on another connection: it may not have been read yet.
    await this.data?.caughtUp(CANCEL_GRACE_MS);
    await turn();
    this.link.tpm.cancel();
    await this.data?.idle(CANCEL_GRACE_MS);
  }

  /** SHUTDOWN: the machine's use of the TPM ends. The next one finds the TPM as after power-on. */
  async shutdown(): Promise<void> {
    await this.powerCycle();
    this.shutDown = true;
  }

  /** The connection has ended. Only if it was the peer who ended it the TPM is made ready for the next one. */
  async end(ending: Ending): Promise<void> {
    this.dropDescriptor();
    this.reading = undefined;
    if (!this.machine || ending === 'left') return;
    // Nobody waits for the answer of a command that runs.
    if (this.data?.open === true) this.link.tpm.cancel();
    await this.data?.finish(0);
    if (ending === 'peer' && !this.shutDown) await this.powerCycle();
    this.link.lock.release(this);
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
    if (link.tpm.powered) await link.tpm.powerOff(true);
    await link.tpm.powerOn();
    link.locality = 0;
    link.incoming = false;
    link.remember();
  }
}
