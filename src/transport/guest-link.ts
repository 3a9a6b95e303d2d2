// What the connections of one guest share.
import type { GuestTpm, StatePart } from '../vtpm/guest-tpm.js';
import type { Holder } from './control/holder.js';
import type { ControlLock } from './control/lock.js';

/** Smallest and largest buffer of SET_BUFFERSIZE, in bytes. */
export const BUFFER_SIZE = { min: 0x0af8, max: 0x1000 } as const;

/** What GET_INFO tells of a guest's TPM. */
export interface TpmDescription {
  /** Revision of the Library specification times 100. */
  readonly revision: number;
  /** TPM_PT_MANUFACTURER, four characters. */
  readonly manufacturer: string;
  /** TPM_PT_FIRMWARE_VERSION_1. */
  readonly firmwareVersion: number;
  readonly model: string;
}

/** Bounds on what a peer may do. */
export interface TransportLimits {
  /** Connections of one guest at a time, data and control together; further ones are closed. */
  readonly maxConnections: number;
  /** How long a peer may take for the rest of a command, in milliseconds. */
  readonly partialFrameTimeout: number;
  /** How long a peer may leave a response unread, in milliseconds. */
  readonly unreadResponseTimeout: number;
}

export const DEFAULT_LIMITS: TransportLimits = { maxConnections: 32, partialFrameTimeout: 5_000, unreadResponseTimeout: 30_000 };

/** Why a connection was ended or not accepted, or bytes of a line were thrown away, for counting. */
export type Rejection = 'bad_header' | 'slow_command' | 'unread_response' | 'too_many' | 'line_noise' | 'line_echo';

/** The transport's state of one guest: it belongs to the guest, not to a connection. */
export interface GuestLink {
  /** For log lines. */
  readonly name: string;
  readonly tpm: GuestTpm;
  /** Undefined while no daemon is there. */
  readonly description: TpmDescription | undefined;
  readonly limits: TransportLimits;
  /** Set by SET_LOCALITY; the locality of the commands that follow. */
  locality: number;
  /** State was put into the TPM and waits for INIT. */
  incoming: boolean;
  readonly lock: ControlLock;
  /** Keeps for another daemon what a request may have changed of the above, and whether the TPM has power. */
  readonly remember: () => void;
  readonly onRejection: (reason: Rejection) => void;
  /** A connection waits, because a machine has the TPM to itself. */
  readonly onWaiting: (waits: Holder | undefined, holds: Holder | undefined) => void;
  /** A state blob was not taken. */
  readonly onRefusedState: (part: StatePart, reason: string) => void;
  /** A failure in our own code while serving a peer, who sees an error or a closed connection. */
  readonly onDefect: (error: unknown) => void;
}
