// TPM 2.0 Library Part 3, 26.3: the vendor's algorithm set. There is one set only: the number is kept and reported, and changes nothing.
import { struct, uint32, uint8 } from '../../tpm/schema.js';
import type { DurableState } from './durable.js';

const RECORD_KEY = 'algorithm-set';
const record = struct({ version: uint8, number: uint32 });

/** What SetAlgorithmSet has set (TPM_PT_ALGORITHM_SET). */
export class AlgorithmSet {
  number = 0;
  private readonly durable: DurableState;

  constructor(durable: DurableState) {
    this.durable = durable;
  }

  async load(): Promise<void> {
    this.number = (await this.durable.load(RECORD_KEY, record))?.number ?? 0;
  }

  set(number: number): void {
    this.number = number;
    this.durable.put(RECORD_KEY, record, { version: 1, number });
  }
}
