// What all connections of a guest share, in one word of memory that outlives the daemon.
import { ExchangeMemory, type ExchangeSizes } from '../../native/index.js';
import type { GuestDescriptors } from './descriptor-store.js';
import type { GuestLink } from '../guest-link.js';
import { GUEST_MEMORY_NAME } from './connections.js';

const SIZES: ExchangeSizes = { input: 4096, response: 4096 };
const LOCALITY_MASK = 0xff;
const BUFFER_SHIFT = 8;
const BUFFER_MASK = 0xffff;
const INCOMING = 1 << 24;
const OFF = 1 << 25;
/** Without it nothing was stored yet. */
const WRITTEN = 1 << 26;

/** What was stored. */
export interface GuestMemoryContents {
  readonly locality: number;
  readonly bufferSize: number;
  /** State was put into the TPM, and INIT had not taken it into use. */
  readonly incoming: boolean;
  /** The machine had taken the power away. */
  readonly off: boolean;
}

/** The memory of one guest. */
export class GuestMemory {
  private constructor(private readonly memory: ExchangeMemory) {}

  /** Takes over the descriptor `kept`, or has a new one kept. Undefined if nobody keeps descriptors. */
  static open(kept: number | undefined, descriptors: GuestDescriptors): GuestMemory | undefined {
    if (kept !== undefined) {
      try {
        return new GuestMemory(ExchangeMemory.adopt(kept, SIZES));
      } catch {
        // Of a version that had another layout: the defaults are in force.
        descriptors.remove(GUEST_MEMORY_NAME);
      }
    }
    if (!descriptors.available) return undefined;
    const memory = ExchangeMemory.create(SIZES, true);
    if (memory.fd !== undefined) descriptors.put(GUEST_MEMORY_NAME, [memory.fd]);
    return new GuestMemory(memory);
  }

  /** Undefined if nothing was stored yet. */
  read(): GuestMemoryContents | undefined {
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
