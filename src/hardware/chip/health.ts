// What state the chip is in, for those who use it and those who watch it.
import type { ChipLog } from './connection.js';
import { ChipCleared, ChipError, ChipFailing, ChipUnavailable } from './errors.js';

/**
 * `ok`; `unreachable`: there is no connection, or no answer; `cleared`: it answers, but the host root is gone or another one;
 * `failing`: it answers that it has failed.
 */
export type ChipState = 'ok' | 'unreachable' | 'cleared' | 'failing';
export const CHIP_STATES: readonly ChipState[] = ['ok', 'unreachable', 'cleared', 'failing'];

/** The state of the chip, and since when. */
export interface ChipCondition {
  readonly state: ChipState;
  readonly since: Date;
  /** Why it is not `ok`; null if it is. */
  readonly reason: string | null;
}

/** Keeps the chip's state. While it is not `ok` nothing is sent to it, so that nobody waits for a chip that is known to be gone. */
export class ChipHealth {
  private current: ChipCondition = { state: 'ok', since: new Date(), reason: null };

  /** @param onChange told after each change of the state */
  constructor(
    private readonly log: ChipLog,
    private readonly onChange: (now: ChipCondition) => void,
  ) {}

  get condition(): ChipCondition {
    return this.current;
  }

  get isWell(): boolean {
    return this.current.state === 'ok';
  }

  /** The chip answers, and is the right one. */
  recovered(): void {
    this.become('ok', null);
  }

  /** The chip cannot be used, because of `error`. */
  ill(error: unknown): void {
    const state =
      error instanceof ChipCleared ? 'cleared' : error instanceof ChipError || error instanceof ChipFailing ? 'failing' : 'unreachable';
    this.become(state, error instanceof Error ? error.message : String(error));
  }

  /** Throws {@link ChipUnavailable}, {@link ChipCleared} or {@link ChipFailing} unless the chip is `ok`. */
  require(): void {
    const { state, reason } = this.current;
    if (state === 'ok') return;
    const message = reason ?? '';
    throw state === 'cleared' ? new ChipCleared(message) : state === 'failing' ? new ChipFailing(message) : new ChipUnavailable(message);
  }

  private become(state: ChipState, reason: string | null): void {
    const before = this.current;
    const since = state === before.state ? before.since : new Date();
    this.current = { state, since, reason };
    if (state === before.state) return;
    if (state === 'ok') this.log.info(`the TPM can be used again; it was ${before.state}`);
    else this.log.warn(`the TPM is ${state}: ${reason ?? ''}`);
    this.onChange(this.current);
  }
}
