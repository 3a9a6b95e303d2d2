// The way to a chip, and how long to wait on it.
import { setTimeout as sleep } from 'node:timers/promises';
import { TPM_CC } from '../../tpm/constants/index.js';
import { frameCode } from '../../tpm/frame.js';
import { ChipUnavailable } from './errors.js';

/** A connection to a chip: whole command frames in, whole response frames out, one at a time. */
export interface ChipTransport {
  /** Rejects when there is no answer within `timeout` milliseconds. */
  transceive(command: Buffer, timeout: number): Promise<Buffer>;
  close(): void | Promise<void>;
}

/** Where the chip's troubles are told; a winston logger is one. */
export interface ChipLog {
  info(message: string): unknown;
  warn(message: string): unknown;
}

/** How long to wait for a chip that is busy or gone, in milliseconds. */
export interface ChipTimeouts {
  /** For a command that the chip answers with "try again". */
  readonly busy: number;
  /** For the chip to accept a connection again. Then guests are told to try again, while tpmux goes on trying in the background. */
  readonly reconnect: number;
  /** For the answer to a command that makes a key or tests the chip; making an RSA key takes some chips a minute. */
  readonly answer: number;
  /** For the answer to any other command. */
  readonly quickAnswer: number;
}

/** How {@link Chip.open} treats the chip. */
export interface ChipOpenOptions {
  /** Flush transient objects and loaded sessions, which a run that was killed may have left; saved sessions stay. */
  readonly clean: boolean;
  readonly timeouts?: Partial<ChipTimeouts> | undefined;
}

/** What is waited unless configured otherwise. */
export const DEFAULT_TIMEOUTS: ChipTimeouts = { busy: 10_000, reconnect: 1_000, answer: 300_000, quickAnswer: 20_000 };
/** For the answer to a command that finds out whether the chip is usable again, in milliseconds. */
export const PROBE_ANSWER = 5_000;
const SLOW_COMMANDS = new Set<number>([TPM_CC.Create, TPM_CC.CreatePrimary, TPM_CC.CreateLoaded, TPM_CC.SelfTest, TPM_CC.Import]);

/** How long to wait for the answer to a command, in milliseconds. */
export function timeoutFor({ answer, quickAnswer }: ChipTimeouts, command: Buffer): number {
  return SLOW_COMMANDS.has(frameCode(command)) ? answer : Math.min(answer, quickAnswer);
}

/** A connection that is there within `milliseconds`; one that comes later is closed. Rejects as `connect` does, or with {@link ChipUnavailable}. */
export async function connectWithin(connect: () => Promise<ChipTransport>, milliseconds: number): Promise<ChipTransport> {
  const connecting = connect();
  const timeouts = new AbortController();
  const tooLate = sleep(milliseconds, undefined, { signal: timeouts.signal, ref: false }).then(() => {
    connecting.then(
      (transport) => transport.close(),
      () => undefined,
    );
    throw new ChipUnavailable('it takes too long to connect to the TPM');
  });
  try {
    return await Promise.race([connecting, tooLate]);
  } finally {
    timeouts.abort();
    tooLate.catch(() => undefined);
  }
}
