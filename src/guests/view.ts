// What users see of a guest.
import type { LineView } from '../transport/line/server.js';

export type GuestState = 'off' | 'running' | 'failed';

/** What users see of a guest. */
export interface GuestView {
  readonly name: string;
  readonly id: string;
  readonly state: GuestState;
  /** Why it failed; null otherwise. */
  readonly reason: string | null;
  /** Whether its TPM has power; a running guest's has none between SHUTDOWN and the next INIT of its machine. */
  readonly powered: boolean;
  readonly created: string;
  readonly autostart: boolean;
  readonly policy: boolean;
  readonly socket: string;
  readonly control: string;
  readonly tcp: number | null;
  /** Command port of the simulator's protocol; the platform port is the next one. */
  readonly mssim: number | null;
  /** Ttys and console sockets. */
  readonly lines: readonly LineView[];
  /** Path of its TPM device on the host, or null if none was asked for. */
  readonly device: string | null;
  /** TCTI string for tpm2-tss programs. */
  readonly tcti: string;
  readonly connections: number;
}
