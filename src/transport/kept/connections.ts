// What another daemon left of a guest's sockets: told apart by name, checked, and ready to be served.
import { closeFd, describeSocket, ExchangeMemory, type ExchangeSizes, type SocketDescription } from '../../native/index.js';
import { reasonOf } from '../../failure.js';
import { MAX_COMMAND_SIZE } from '../../tpm/constants/index.js';
import { MAX_STATE_BLOB } from '../control/commands.js';
import type { KeptDescriptors } from './descriptor-store.js';

/** Room of connections that carry TPM commands, one of which the simulator's protocol wraps. */
export const COMMAND_EXCHANGE: ExchangeSizes = { input: 0x10000, response: 2 * MAX_COMMAND_SIZE };
/** Room of control connections. What is not used takes no memory. */
const CONTROL_EXCHANGE: ExchangeSizes = { input: MAX_STATE_BLOB + 0x10000, response: MAX_STATE_BLOB + 0x10000 };

/** What is spoken on a connection: TPM commands, control requests (without and with descriptors beside them), the simulator's ports. */
const CONNECTION_KINDS = ['data', 'control', 'fdcontrol', 'mssim', 'platform'] as const;
export type ConnectionKind = (typeof CONNECTION_KINDS)[number];

/** Kinds that control requests are spoken on. */
export type ControlKind = 'control' | 'fdcontrol';

export function isControl(kind: ConnectionKind): kind is ControlKind {
  return kind === 'control' || kind === 'fdcontrol';
}

/** A connection with its exchange. */
export interface KeptConnection {
  readonly name: string;
  readonly kind: ConnectionKind;
  readonly number: number;
  /** Number of the control connection that a data connection came on. */
  readonly owner: number | undefined;
  readonly fd: number;
  readonly exchange: ExchangeMemory;
}

/** All of one guest. */
export interface KeptGuest {
  /** Descriptor of the {@link GuestMemory}. */
  readonly memory: number | undefined;
  readonly listeners: readonly { readonly name: string; readonly fd: number; readonly socket: SocketDescription }[];
  readonly connections: readonly KeptConnection[];
  /** Notes of control connections whose peer went away while no daemon was there. */
  readonly lostControls: readonly number[];
}

export const GUEST_MEMORY_NAME = 'memory';
const LISTENER_KIND = 'listen';

export function listenerName(number: number): string {
  return `${LISTENER_KIND}.${number.toString()}`;
}

export function connectionName(kind: ConnectionKind, number: number, owner?: number): string {
  return [kind, number, ...(owner === undefined ? [] : [owner])].join('.');
}

/** The number in a name; 0 if there is none. */
export function numberIn(name: string): number {
  return Number(name.split('.')[1] ?? 0) || 0;
}

/** Room of a connection of this kind. */
export function exchangeSizes(kind: ConnectionKind): ExchangeSizes {
  return isControl(kind) ? CONTROL_EXCHANGE : COMMAND_EXCHANGE;
}

/** Sorts out what was kept. What cannot be used is closed, and `onDropped` is told. */
export function sortKept(kept: readonly KeptDescriptors[], onDropped: (name: string, reason: string) => void): KeptGuest {
  const listeners: { name: string; fd: number; socket: SocketDescription }[] = [];
  const connections: KeptConnection[] = [];
  const lostControls: number[] = [];
  let memory: number | undefined;
  for (const { name, fds } of kept) {
    const sockets = fds.filter((fd) => describeSocket(fd) !== undefined);
    const memories = fds.filter((fd) => !sockets.includes(fd));
    try {
      const [fd] = sockets;
      const socket = fd === undefined ? undefined : describeSocket(fd);
      if (sockets.length > 1 || memories.length > 1) throw new Error('several descriptors have this name');
      if (name === GUEST_MEMORY_NAME && memory === undefined && memories[0] !== undefined) memory = memories[0];
      else if (name.startsWith(`${LISTENER_KIND}.`) && fd !== undefined && socket !== undefined) listeners.push({ name, fd, socket });
      else {
        const found = connectionOf(name, fd, memories[0]);
        if ('exchange' in found) connections.push(found);
        else {
          lostControls.push(found.lostControl);
          onDropped(name, 'the peer is gone');
        }
      }
    } catch (error) {
      for (const fd of fds) closeQuietly(fd);
      onDropped(name, reasonOf(error));
    }
  }
  return { memory, listeners, connections, lostControls };
}

function connectionOf(name: string, fd: number | undefined, memory: number | undefined): KeptConnection | { lostControl: number } {
  const match = /^([a-z]+)\.(\d{1,9})(?:\.(\d{1,9}))?$/.exec(name);
  const kind = CONNECTION_KINDS.find((known) => known === match?.[1]);
  if (match === null || kind === undefined) throw new Error('its name is not one of ours');
  if (memory === undefined) throw new Error('what was going on on it is not known');
  const exchange = ExchangeMemory.adopt(memory, exchangeSizes(kind));
  if (fd === undefined) {
    const { note } = exchange;
    exchange.close();
    return { lostControl: kind === 'data' ? 0 : note };
  }
  const owner = match[3] === undefined ? undefined : Number(match[3]);
  return { name, kind, number: Number(match[2]), owner, fd, exchange };
}

/** One that a failure closed already is not there any more. */
function closeQuietly(fd: number): void {
  try {
    closeFd(fd);
  } catch {
    // It is closed, which is what was wanted.
  }
}
