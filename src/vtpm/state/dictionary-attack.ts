// TPM 2.0 Library Part 1, 19.8: Dictionary attack protection.
import { struct, uint32, uint64, uint8 } from '../../tpm/schema.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { Clock } from './clock.js';
import type { DurableState } from './durable.js';

const RECORD_KEY = 'dictionary-attack';
const record = struct({
  version: uint8,
  failedTries: uint32,
  maxTries: uint32,
  recoveryTime: uint32,
  lockoutRecovery: uint32,
  lockoutAuthEnabled: uint8,
  sinceSelfHeal: uint64,
  sinceLockout: uint64,
});

/** From which Time (ms) the timers count, as 64-bit two's complement. */
const timers = section('dictionary-attack', struct({ selfHealAt: uint64, lockoutAt: uint64 }));

/** What a new TPM has, and TPM2_Clear brings back. */
const initial = { failedTries: 0, maxTries: 3, recoveryTime: 1000, lockoutRecovery: 1000, lockoutAuthEnabled: true } as const;

/** Counts authorization failures of protected entities and says when to refuse. Times are in seconds, as in Part 3. */
export class DictionaryAttack implements StateModule {
  failedTries: number = initial.failedTries;
  maxTries: number = initial.maxTries;
  recoveryTime: number = initial.recoveryTime;
  lockoutRecovery: number = initial.lockoutRecovery;
  /** Whether lockoutAuth may be used. */
  lockoutAuthEnabled: boolean = initial.lockoutAuthEnabled;
  /** Time (ms since power-on) from which the next self-healing counts. */
  private selfHealAt = 0n;
  private lockoutAt = 0n;
  private readonly clock: Clock;
  private readonly durable: DurableState;

  constructor(durable: DurableState, clock: Clock) {
    this.durable = durable;
    this.clock = clock;
  }

  async load(): Promise<void> {
    const saved = await this.durable.load(RECORD_KEY, record);
    if (saved === undefined) {
      this.changed();
      return;
    }
    this.failedTries = saved.failedTries;
    this.maxTries = saved.maxTries;
    this.recoveryTime = saved.recoveryTime;
    this.lockoutRecovery = saved.lockoutRecovery;
    this.lockoutAuthEnabled = saved.lockoutAuthEnabled !== 0;
    this.selfHealAt = -saved.sinceSelfHeal;
    this.lockoutAt = -saved.sinceLockout;
  }

  changed(): void {
    this.store(0n, 0n);
  }

  private store(sinceSelfHeal: bigint, sinceLockout: bigint): void {
    const { failedTries, maxTries, recoveryTime, lockoutRecovery } = this;
    const lockoutAuthEnabled = Number(this.lockoutAuthEnabled);
    this.durable.put(RECORD_KEY, record, {
      version: 1,
      failedTries,
      maxTries,
      recoveryTime,
      lockoutRecovery,
      lockoutAuthEnabled,
      sinceSelfHeal,
      sinceLockout,
    });
  }

  /** Shutdown: the time that the timers have run is kept, so that a guest that reboots often heals as well. */
  shutdown(): void {
    this.heal();
    const now = this.clock.time;
    this.store(now - this.selfHealAt, now - this.lockoutAt);
  }

  /**
   * Startup. lockoutAuth with a recovery time of 0 is enabled again. After a shutdown that was not orderly the timers begin at zero;
   * and if an authorization was checked before it, its failure may have gone unrecorded, so it counts as one.
   */
  startup(orderly: boolean, used: boolean): void {
    if (!orderly) {
      this.selfHealAt = 0n;
      this.lockoutAt = 0n;
    }
    if (this.lockoutRecovery === 0) this.lockoutAuthEnabled = true;
    if (!orderly && used && this.recoveryTime !== 0 && this.failedTries < this.maxTries) this.failedTries++;
    this.changed();
    this.heal();
  }

  writeSections(writer: SectionWriter): void {
    const { selfHealAt, lockoutAt } = this;
    writer.one(timers, () => ({ selfHealAt: BigInt.asUintN(64, selfHealAt), lockoutAt: BigInt.asUintN(64, lockoutAt) }), [
      selfHealAt,
      lockoutAt,
    ]);
  }

  readSections(reader: SectionReader): void {
    const { selfHealAt, lockoutAt } = reader.one(timers);
    this.selfHealAt = BigInt.asIntN(64, selfHealAt);
    this.lockoutAt = BigInt.asIntN(64, lockoutAt);
  }

  /** Whether entities under protection are refused (`TPM_RC_LOCKOUT`). */
  get inLockout(): boolean {
    this.heal();
    return this.failedTries >= this.maxTries;
  }

  /** Whether lockoutAuth itself is refused. */
  get lockoutAuthBlocked(): boolean {
    this.heal();
    return !this.lockoutAuthEnabled;
  }

  /** A failed authorization with lockoutAuth. */
  failLockoutAuth(): void {
    this.lockoutAuthEnabled = false;
    this.lockoutAt = this.clock.time;
    this.changed();
  }

  /** A failed authorization of a protected entity. */
  failEntity(): void {
    this.selfHealAt = this.clock.time;
    if (this.recoveryTime === 0) return;
    this.failedTries++;
    this.changed();
  }

  /** TPM2_DictionaryAttackLockReset. */
  reset(): void {
    this.failedTries = 0;
    this.changed();
  }

  /** An older state was put in place: failures that were counted since stay counted, and their timers begin anew. */
  keepForward(now: DictionaryAttack): void {
    if (now.failedTries <= this.failedTries && (now.lockoutAuthEnabled || !this.lockoutAuthEnabled)) return;
    this.failedTries = Math.max(this.failedTries, now.failedTries);
    this.lockoutAuthEnabled &&= now.lockoutAuthEnabled;
    this.restartTimers();
    this.changed();
  }

  /** Healing counts from now on. */
  restartTimers(): void {
    this.selfHealAt = this.lockoutAt = this.clock.time;
  }

  /** TPM2_Clear. */
  clear(): void {
    Object.assign(this, initial);
    this.changed();
  }

  /** TPM2_DictionaryAttackParameters. */
  setParameters(maxTries: number, recoveryTime: number, lockoutRecovery: number): void {
    this.maxTries = maxTries;
    this.recoveryTime = recoveryTime;
    this.lockoutRecovery = lockoutRecovery;
    this.changed();
  }

  /** Forgets one failure per `recoveryTime` that passed without another, and enables lockoutAuth after `lockoutRecovery`. */
  heal(): void {
    const now = this.clock.time;
    if (this.recoveryTime === 0 && this.failedTries > 0) this.reset();
    if (this.recoveryTime !== 0 && this.failedTries > 0) {
      const interval = BigInt(this.recoveryTime) * 1000n;
      const healed = (now - this.selfHealAt) / interval;
      if (healed > 0n) {
        this.failedTries = healed >= BigInt(this.failedTries) ? 0 : this.failedTries - Number(healed);
        this.selfHealAt += healed * interval;
        this.changed();
      }
    }
    if (!this.lockoutAuthEnabled && this.lockoutRecovery !== 0 && now - this.lockoutAt >= BigInt(this.lockoutRecovery) * 1000n) {
      this.lockoutAuthEnabled = true;
      this.changed();
    }
  }
}
