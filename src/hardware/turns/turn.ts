// The right to use the chip: nothing comes between the commands of one turn.
import { requireWanted } from '../../tpm/canceled.js';
import type { AnyCommand, Request, Response } from '../../tpm/command.js';
import type { Chip, SlotKeeper } from '../chip/chip.js';
import type { ExecuteOptions } from '../chip/sender.js';
import type { LoadableKey, SlotCache } from './slots.js';

/** One turn at the chip. It is of no use when its job has ended. */
export class Turn implements SlotKeeper {
  private over = false;

  constructor(
    private readonly chip: Chip,
    private readonly slots: SlotCache,
    /** Aborted when nobody waits for the job any more. */
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** As {@link CommandSender.execute}. Rejects with `TPM_RC_CANCELED`, and sends nothing, if nobody waits for the job any more. */
  async execute<C extends AnyCommand>(of: C, request: Request<C>, options?: ExecuteOptions): Promise<Response<C>> {
    this.requireTurn();
    requireWanted(this.signal);
    return await this.chip.execute(of, request, { ...options, signal: this.signal });
  }

  async flush(handle: number): Promise<void> {
    this.requireTurn();
    await this.chip.flush(handle);
  }

  async resynchronize(command: string): Promise<never> {
    this.requireTurn();
    return await this.chip.resynchronize(command);
  }

  /** Runs `operate` with the handle of `key`, which is loaded and stays in its slot meanwhile. Rejects as {@link SlotCache.use}. */
  async use<T>(key: LoadableKey, operate: (handle: number) => Promise<T>): Promise<T> {
    this.requireTurn();
    return await this.slots.use(this, key, operate);
  }

  /** Takes all keys that `mine` selects out of the chip. */
  async discard(mine: (key: LoadableKey) => boolean): Promise<void> {
    this.requireTurn();
    await this.slots.discard(this, mine);
  }

  /** The job has ended. */
  end(): void {
    this.over = true;
  }

  private requireTurn(): void {
    if (this.over) throw new Error('a turn at the TPM was used after it had ended');
  }
}
