// Finds out, in the background, when a chip that could not be used can be used again.
import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_DELAY = 100;
const LAST_DELAY = 2_000;
/** Who asks for the chip waits so long for a probe, in milliseconds; a probe of a chip that is gone fails at once. */
const WAIT = 500;
/** After a probe nobody has another one begin within so many milliseconds. */
const REST = 100;
/** A chip that lets a probe wait so long hangs: nobody waits for further probes of it. */
const HANGS = 200;

/** Probes a chip until it is well. */
export class ChipHealer {
  private running = false;
  private stopped = false;
  private pause = new AbortController();
  private ended = -Infinity;
  private began = -Infinity;
  private hangs = false;
  private probing: Promise<boolean> | undefined;

  /** @param probe resolves with whether the chip can be used; never rejects */
  constructor(private readonly probe: () => Promise<boolean>) {}

  /** Probes, at first often, until the chip can be used. */
  start(): void {
    if (this.running || this.stopped) return;
    this.running = true;
    void this.run();
  }

  /** For who needs the chip now: has it probed soon, and waits for that, but not long. */
  async hurry(): Promise<void> {
    if (!this.running || this.hangs) return;
    const now = performance.now();
    if (this.probing === undefined) {
      if (now - this.ended < REST) return;
      this.pause.abort();
      // The probe begins when the pause has ended.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const left = this.began + WAIT - now;
    if (this.probing !== undefined && left > 0) await Promise.race([this.probing, sleep(left, undefined, { ref: false })]);
  }

  /** No further probe begins. */
  stop(): void {
    this.stopped = true;
    this.pause.abort();
  }

  private async run(): Promise<void> {
    for (let delay = FIRST_DELAY; ; delay = Math.min(delay * 2, LAST_DELAY)) {
      this.pause = new AbortController();
      await sleep(delay, undefined, { ref: false, signal: this.pause.signal }).catch(() => undefined);
      if (this.stopped) return;
      this.began = performance.now();
      this.probing = this.probe();
      const well = await this.probing;
      this.probing = undefined;
      this.ended = performance.now();
      this.hangs = !well && this.ended - this.began > HANGS;
      if (!well) continue;
      this.running = false;
      return;
    }
  }
}
