// What all connections of a guest share, in one word of memory that outlives the daemon.
import { Ledger, type LedgerSizes } from '../native/index.js';
import type { GuestDescriptors } from './descriptor-store.js';
import type { GuestLink } from './guest-link.js';
import { CELL_NAME } from './kept-connections.js';

const SIZES: LedgerSizes = { input: 4096, response: 4096 };
const LOCALITY_MASK = 0xff;
const BUFFER_SHIFT = 8;
const BUFFER_MASK = 0xffff;
const INCOMING = 1 << 24;
const OFF = 1 << 25;
/** Without it nothing was stored yet. */
const WRITTEN = 1 << 26;

/** What was stored. */
export interface CellContents {
  readonly locality: number;
  readonly bufferSize: number;
  /** State was put into the TPM, and INIT had not taken it into use. */
  readonly incoming: boolean;
  /** The machine had taken the power away. */
  readonly off: boolean;
}

/** The memory of one guest. */
export class GuestCell {
  private constructor(private readonly memory: Ledger) {}

  /** Takes over the descriptor `kept`, or has a new one kept. Undefined if nobody keeps descriptors. */
  static open(kept: number | undefined, descriptors: GuestDescriptors): GuestCell | undefined {
    if (kept !== undefined) {
      try {
        return new GuestCell(Ledger.adopt(kept, SIZES));
      } catch {
        // Of a version that had another layout: the defaults are in force.
        descriptors.remove(CELL_NAME);
      }
    }
    if (!descriptors.available) return undefined;
    const memory = Ledger.create(SIZES, true);
    if (memory.fd !== undefined) descriptors.put(CELL_NAME, [memory.fd]);
    return new GuestCell(memory);
  }

  /** Undefined if nothing was stored yet. */
  read(): CellContents | undefined {
    const { note } = this.memory;
    if ((note & WRITTEN) === 0) return undefined;
    return {
      locality: note & LOCALITY_MASK,
      bufferSize: (note >>> BUFFER_SHIFT) & BUFFER_MASK,
      incoming: (note & INCOMING) !== 0,
      off: (note & OFF) !== 0,
    };
  }

  write({ locality, incoming, tpm }: GuestLink): void {
    this.memory.note = WRITTEN | locality | (tpm.bufferSize << BUFFER_SHIFT) | (incoming ? INCOMING : 0) | (tpm.powered ? 0 : OFF);
  }

  close(): void {
    this.memory.close();
  }
}
