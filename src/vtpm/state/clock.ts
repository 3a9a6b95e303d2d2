// TPM 2.0 Library Part 1, 36: Timing components.
import { randomBytes } from 'node:crypto';
import { struct, uint32, uint64, uint8 } from '../../tpm/schema.js';
import type { TPM_CLOCK_ADJUST } from '../../tpm/constants/index.js';
import { type Origin, section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { DurableState } from './durable.js';

/** The durable clock is at most this many milliseconds behind (TPM_PT_CLOCK_UPDATE). A power of two. */
export const CLOCK_UPDATE_MS = 4096n;

/** Units of the nominal rate: the larger, the slower. The limit is one sixth; steps are 1/30000, 1/1000 and 1/100. */
const NOMINAL_RATE = 30_000n;
const RATE_LIMIT = 5_000n;
const rateSteps: readonly bigint[] = [0n, 1n, 30n, 300n];

const RECORD_KEY = 'clock';
const record = struct({ version: uint8, clock: uint64, safe: uint8, resetCount: uint32, totalResetCount: uint32 });
/** What Shutdown(STATE) keeps. */
export const savedCounters = struct({ restartCount: uint32, clearCount: uint32 });

/**
 * What Time and Clock go on from: Time stood at `rateTime` when the monotonic clock, which counts from the boot of the host, stood at
 * `rateAt` (ns). It changes only where the clock is set. Durable counters are in it, so that contexts saved before it can be loaded after it.
 */
const anchors = section(
  'clock',
  struct({
    rateAt: uint64,
    rateTime: uint64,
    rate: uint32,
    clockAtSync: uint64,
    timeAtSync: uint64,
    safe: uint8,
    epoch: uint32,
    resetCount: uint32,
    totalResetCount: uint32,
    restartCount: uint32,
    clearCount: uint32,
  }),
);

/** Time, Clock and the counters that tell one power cycle from another. Times are in milliseconds. */
export class Clock implements StateModule {
  /** Number of TPM resets since the last TPM2_Clear. */
  resetCount = 0;
  /** Number of TPM resets ever; saved contexts are bound to it. */
  totalResetCount = 0;
  /** Number of TPM restarts and resumes since the last reset. */
  restartCount = 0;
  /** Number of TPM restarts since the last reset; saved contexts of stClear objects are bound to it. */
  clearCount = 0;
  /** Changes whenever Time may have stopped: tickets and sessions with a timeout are bound to it. Random, so that no two runs share one. */
  epoch = randomBytes(4).readUInt32BE();
  private safeFlag = true;
  /** Time stood at {@link rateTime} when the monotonic clock stood at {@link rateAt}; since then it has run at {@link rate}. */
  private rateAt = process.hrtime.bigint();
  private rateTime = 0n;
  private rate = NOMINAL_RATE;
  private clockAtSync = 0n;
  private timeAtSync = 0n;
  private durableClock = 0n;
  private readonly durable: DurableState;

  constructor(durable: DurableState) {
    this.durable = durable;
  }

  async load(): Promise<void> {
    const saved = await this.durable.load(RECORD_KEY, record);
    if (saved === undefined) {
      this.changed();
      return;
    }
    this.clockAtSync = saved.clock;
    this.durableClock = saved.clock;
    this.safeFlag = saved.safe !== 0;
    this.resetCount = saved.resetCount;
    this.totalResetCount = saved.totalResetCount;
  }

  /** Power is applied: Time is zero from now on. */
  powerOn(): void {
    this.clockAtSync = this.clock;
    this.rateAt = process.hrtime.bigint();
    this.rateTime = 0n;
    this.timeAtSync = 0n;
    this.epoch = (this.epoch + 1) >>> 0;
  }

  /** Milliseconds since power was applied. */
  get time(): bigint {
    return this.timeAt(process.hrtime.bigint());
  }

  /** TPM2_ClockRateAdjust: one step of a {@link TPM_CLOCK_ADJUST}, within the limits of the rate. */
  adjustRate(adjust: TPM_CLOCK_ADJUST): void {
    const time = this.time;
    this.rateAt = process.hrtime.bigint();
    this.rateTime = time;
    const wanted = this.rate + (adjust > 0 ? -1n : 1n) * (rateSteps[Math.abs(adjust)] ?? 0n);
    const [slowest, fastest] = [NOMINAL_RATE + RATE_LIMIT, NOMINAL_RATE - RATE_LIMIT];
    this.rate = wanted > slowest ? slowest : wanted < fastest ? fastest : wanted;
  }

  /** Milliseconds that this TPM has been powered in its life, settable forward. */
  get clock(): bigint {
    return this.clockAtSync + (this.time - this.timeAtSync);
  }

  /** TPMI_YES_NO `safe`: no value of Clock can have been reported before that was higher. */
  get safe(): boolean {
    return this.safeFlag;
  }

  /** Sets Clock; the caller has checked that it goes forward. */
  set(clock: bigint): void {
    this.timeAtSync = this.time;
    this.clockAtSync = clock;
    this.changed();
  }

  /** Startup: after a disorderly shutdown Clock is moved past all that can have been reported since it was stored. */
  startup(orderly: boolean): void {
    if (orderly) return;
    this.safeFlag = false;
    this.clockAtSync = this.clock | (CLOCK_UPDATE_MS - 1n);
    this.timeAtSync = this.time;
  }

  /** True once in every {@link CLOCK_UPDATE_MS}: Clock should be stored, though nobody need wait for it. */
  get due(): boolean {
    return this.clock / CLOCK_UPDATE_MS !== this.durableClock / CLOCK_UPDATE_MS;
  }

  /** Records Clock and the durable counters. */
  changed(): void {
    const clock = this.clock;
    if (clock / CLOCK_UPDATE_MS !== this.durableClock / CLOCK_UPDATE_MS) this.safeFlag = true;
    this.durableClock = clock;
    const { resetCount, totalResetCount } = this;
    this.durable.put(RECORD_KEY, record, { version: 1, clock, safe: Number(this.safeFlag), resetCount, totalResetCount });
  }

  /** What {@link changed} recorded could not be made durable: after a crash a higher value may have been reported. */
  notStored(): void {
    this.safeFlag = false;
  }

  writeSections(writer: SectionWriter): void {
    const { rateAt, rateTime, rate, clockAtSync, timeAtSync, epoch, resetCount, totalResetCount, restartCount, clearCount } = this;
    const safe = Number(this.safeFlag);
    const counters = { epoch, resetCount, totalResetCount, restartCount, clearCount };
    const mark = [rateAt, rateTime, rate, clockAtSync, timeAtSync, safe, epoch, resetCount, totalResetCount, restartCount, clearCount];
    writer.one(anchors, () => ({ rateAt, rateTime, rate: Number(rate), clockAtSync, timeAtSync, safe, ...counters }), mark);
  }

  /** Time and Clock go on as if this process had been there all the time, or from where they stood when the state was taken. */
  readSections(reader: SectionReader, { takenAt }: Origin): void {
    const { rateAt, rate, safe, ...others } = reader.one(anchors);
    const now = process.hrtime.bigint();
    Object.assign(this, others);
    this.rateAt = rateAt;
    this.rate = BigInt(rate);
    this.safeFlag = safe !== 0;
    if (takenAt !== undefined) {
      this.rateTime = this.timeAt(takenAt);
      this.rateAt = now;
    } else if (rateAt > now) this.rateAt = now;
  }

  private timeAt(moment: bigint): bigint {
    return this.rateTime + ((moment - this.rateAt) * NOMINAL_RATE) / (this.rate * 1_000_000n);
  }

  /** TPM2_Clear: Clock and the counters start over. */
  clear(): void {
    this.resetCount = 0;
    this.restartCount = 0;
    this.clearCount = 0;
    this.safeFlag = true;
    this.set(0n);
  }
}
