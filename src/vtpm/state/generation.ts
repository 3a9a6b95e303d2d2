// Tells an older durable state of a guest from a newer one.
import { struct, uint64, uint8 } from '../../tpm/schema.js';
import type { StateModule } from '../persistence/section.js';
import type { DurableState } from './durable.js';

const RECORD_KEY = 'generation';
const record = struct({ version: uint8, value: uint64 });

/** How many commands of the guest have changed something durable. What tpmux stores for itself, as Clock, does not count. */
export class Generation implements StateModule {
  private current = 0n;

  constructor(private readonly durable: DurableState) {}

  get value(): bigint {
    return this.current;
  }

  async load(): Promise<void> {
    this.current = (await this.durable.load(RECORD_KEY, record))?.value ?? 0n;
  }

  /** A command has changed something, which is about to become durable; or an older state is put in place, which is a new one from then on. */
  advance(from = this.current): void {
    this.current = from + 1n;
    this.durable.put(RECORD_KEY, record, { version: 1, value: this.current });
  }
}
