// What another daemon left of a guest's sockets: told apart by name, checked, and ready to be served.
import { closeFd, describeSocket, ExchangeMemory, type ExchangeSizes, type SocketDescription } from '../../native/index.js';
import { reasonOf } from '../../failure.js';
import { COMMAND_LEDGER, CONTROL_LEDGER } from '../channel.js';
import type { KeptDescriptors } from './descriptor-store.js';

/** What is spoken on a connection: TPM commands, control requests (without and with descriptors beside them), the simulator's ports. */
export const CONNECTION_KINDS = ['data', 'control', 'fdcontrol', 'mssim', 'platform'] as const;
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
  /** Memory of the {@link GuestMemory}. */
  readonly cell: number | undefined;
  readonly listeners: readonly { readonly name: string; readonly fd: number; readonly socket: SocketDescription }[];
  readonly connections: readonly KeptConnection[];
  /** Notes of control connections whose peer went away while no daemon was there. */
  readonly lostControls: readonly number[];
}

export const GUEST_MEMORY_NAME = 'cell';
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
  return isControl(kind) ? CONTROL_LEDGER : COMMAND_LEDGER;
}

/** Sorts out what was kept. What cannot be used is closed, and `onDropped` is told. */
export function sortKept(kept: readonly KeptDescriptors[], onDropped: (name: string, reason: string) => void): KeptGuest {
  const listeners: { name: string; fd: number; socket: SocketDescription }[] = [];
  const connections: KeptConnection[] = [];
  const lostControls: number[] = [];
  let cell: number | undefined;
  for (const { name, fds } of kept) {
    const sockets = fds.filter((fd) => describeSocket(fd) !== undefined);
    const memory = fds.filter((fd) => !sockets.includes(fd));
    try {
      const [fd] = sockets;
      const socket = fd === undefined ? undefined : describeSocket(fd);
      if (sockets.length > 1 || memory.length > 1) throw new Error('several descriptors have this name');
      if (name === GUEST_MEMORY_NAME && cell === undefined && memory[0] !== undefined) cell = memory[0];
      else if (name.startsWith(`${LISTENER_KIND}.`) && fd !== undefined && socket !== undefined) listeners.push({ name, fd, socket });
      else {
        const found = connectionOf(name, fd, memory[0]);
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
  return { cell, listeners, connections, lostControls };
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
