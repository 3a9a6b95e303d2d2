// Answers a guest's machine while no daemon is there, so that no answer is ever late: that its commands are to be sent again, and what needs no TPM.
import { closeFd, duplicateFd } from '../../native/index.js';
import { Channel } from '../channel.js';
import { serve, type Connection } from '../connection.js';
import { CANCEL_TPM_CMD, controlCommand } from '../control/commands.js';
import { ControlLock } from '../control/lock.js';
import { controlProtocol } from '../control/serve.js';
import { ControlSession } from '../control/session.js';
import { DEFAULT_LIMITS, type GuestLink } from '../guest-link.js';
import { sortKept, type KeptConnection, type KeptGuest } from './connections.js';
import type { KeptDescriptors } from './descriptor-store.js';
import { GuestMemory } from './guest-memory.js';
import { dataProtocol } from '../tpm-commands.js';
import { AbsentTpm } from './absent-tpm.js';

/** How long an answer that is being sent may take when the next daemon comes, in milliseconds. */
const LEAVE_GRACE_MS = 100;

/** A control connection whose machine has a data connection. */
interface MachineConnections {
  readonly control: KeptConnection;
  readonly data: KeptConnection;
}

/**
 * Serves duplicates of what is kept of one guest, from where the daemon that ended stood, and leaves them to the next one. It knows
 * nothing of the TPM, so what it answers has no effect:
 *
 * - A command is answered `TPM_RC_RETRY` after a while, or `TPM_RC_CANCELED` when it is canceled. So is one that the daemon had begun, if it
 *   cannot have had an effect. If it can, only the next daemon knows the answer: it waits, and CANCEL_TPM_CMD with it.
 * - A control request is answered if that needs no TPM. The others wait for the next daemon.
 *
 * Connections that are not a machine's wait: nothing at their other end is impatient.
 */
export class StandIn {
  private control: Connection | undefined;
  private data: Connection | undefined;
  private leaving: () => void = () => undefined;
  private readonly left = new Promise<void>((resolve) => {
    this.leaving = resolve;
  });
  private wanted = false;

  /** Undefined if no machine has the guest's TPM. The descriptors stay the caller's. */
  static begin(kept: readonly KeptDescriptors[], onDefect: (error: unknown) => void): StandIn | undefined {
    const duplicates = kept.map(({ name, fds }) => ({ name, fds: fds.map(duplicateFd) }));
    const guest = sortKept(duplicates, () => undefined);
    const memory = guest.memory === undefined ? undefined : GuestMemory.adopt(guest.memory);
    const machine = machineOf(guest);
    closeRest(guest, machine);
    const earlier = memory?.read();
    // State that was being put into the TPM is lost with the daemon: the next one ends the connections.
    if (machine === undefined || memory === undefined || earlier === undefined || earlier.incoming) {
      if (machine !== undefined) close([machine.control, machine.data]);
      memory?.close();
      return undefined;
    }
    const standIn = new StandIn(memory);
    const tpm = new AbsentTpm(earlier);
    const link: GuestLink = {
      name: '',
      tpm,
      description: undefined,
      limits: DEFAULT_LIMITS,
      locality: earlier.locality,
      incoming: false,
      lock: new ControlLock(),
      remember: () => {
        memory.write(link);
      },
      onRejection: () => undefined,
      onWaiting: () => undefined,
      onRefusedState: () => undefined,
      onDefect,
    };
    standIn.serve(machine, link, tpm);
    return standIn;
  }

  private constructor(private readonly memory: GuestMemory) {}

  /** Whether anything came, since this was asked last, that a daemon is needed for. */
  takeWanted(): boolean {
    const { wanted } = this;
    this.wanted = false;
    return wanted;
  }

  /** Resolves when nothing is read or written any more. What was not answered is the next daemon's. */
  async leave(): Promise<void> {
    // Its data connection is needed for the end of a CANCEL_TPM_CMD.
    await this.control?.leave(LEAVE_GRACE_MS);
    await this.data?.leave(LEAVE_GRACE_MS);
    this.leaving();
    this.memory.close();
  }

  private serve(machine: MachineConnections, link: GuestLink, tpm: AbsentTpm): void {
    const session = new StandInSession(
      link,
      (fd) => {
        closeFd(fd);
        return undefined;
      },
      undefined,
    );
    const { exchange } = machine.control;
    const control = borrow(machine.control);
    const data = borrow(machine.data);
    if (control === undefined || data === undefined) {
      control?.leave();
      data?.leave();
      return;
    }
    session.resume(exchange.note, (onCommand) => (this.data = this.serveData(data, link, tpm, onCommand)));
    this.control = this.serveControl(control, data, session);
  }

  private serveData(channel: Channel, link: GuestLink, tpm: AbsentTpm, onCommand: () => void): Connection {
    return serve(channel, link, {
      ...dataProtocol(link, onCommand),
      ready: async () => {
        if (channel.exchange.phase === 'answered') return;
        this.wanted = true;
        await (channel.exchange.phase === 'effect' ? this.left : tpm.wait(this.left));
      },
      interrupted: () => undefined,
    });
  }

  private serveControl(channel: Channel, data: Channel, session: ControlSession): Connection {
    return serve(channel, session.link, {
      ...controlProtocol(channel, session, true),
      ready: async ({ number, body }) => {
        const command = controlCommand(number);
        const withoutTpm = command === undefined || command.withoutTpm?.(body) === true;
        const waitsForAnswer = number === CANCEL_TPM_CMD && data.exchange.phase === 'effect';
        if (channel.exchange.phase === 'answered' || (withoutTpm && !waitsForAnswer)) return;
        this.wanted = true;
        await this.left;
      },
      interrupted: () => undefined,
      // That a machine has ended is seen by the next daemon, which cycles the power.
      done: () => session.end('left'),
    });
  }
}

function machineOf({ connections }: KeptGuest): MachineConnections | undefined {
  for (const control of connections) {
    if (control.kind !== 'fdcontrol' || !ControlSession.hasMachine(control.exchange.note)) continue;
    const data = connections.find(({ owner }) => owner === control.number);
    if (data !== undefined) return { control, data };
  }
  return undefined;
}

function closeRest({ listeners, connections }: KeptGuest, machine: MachineConnections | undefined): void {
  for (const { fd } of listeners) closeFd(fd);
  close(connections.filter((each) => each !== machine?.control && each !== machine?.data));
}

function close(connections: readonly KeptConnection[]): void {
  for (const { fd, exchange } of connections) {
    closeFd(fd);
    exchange.close();
  }
}

function borrow({ fd, exchange }: KeptConnection): Channel | undefined {
  try {
    return new Channel(fd, exchange, true);
  } catch {
    return undefined;
  }
}

/** The machine ends its use of the TPM: its power is cycled by the next daemon, when it finds the connection at its end. */
class StandInSession extends ControlSession {
  override shutdown(): Promise<void> {
    return Promise.resolve();
  }
}
