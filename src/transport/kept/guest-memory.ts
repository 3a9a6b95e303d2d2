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
const ESTABLISHED = 1 << 27;

/** What was stored. */
export interface GuestMemoryContents {
  readonly locality: number;
  readonly bufferSize: number;
  /** State was put into the TPM, and INIT had not taken it into use. */
  readonly incoming: boolean;
  /** The machine had taken the power away. */
  readonly off: boolean;
  /** The TPM Established flag. */
  readonly established: boolean;
}

/** The memory of one guest. */
export class GuestMemory {
  private constructor(private readonly memory: ExchangeMemory) {}

  /** Takes over the descriptor `kept`, or has a new one kept. Undefined if nobody keeps descriptors. */
  static open(kept: number | undefined, descriptors: GuestDescriptors): GuestMemory | undefined {
    if (kept !== undefined) {
      const memory = GuestMemory.adopt(kept);
      if (memory !== undefined) return memory;
      descriptors.remove(GUEST_MEMORY_NAME);
    }
    if (!descriptors.available) return undefined;
    const memory = ExchangeMemory.create(SIZES, true);
    if (memory.fd !== undefined) descriptors.put(GUEST_MEMORY_NAME, [memory.fd]);
    return new GuestMemory(memory);
  }

  /** Takes over the descriptor `kept`. Undefined if it is of a version that had another layout: the defaults are in force. */
  static adopt(kept: number): GuestMemory | undefined {
    try {
      return new GuestMemory(ExchangeMemory.adopt(kept, SIZES));
    } catch {
      return undefined;
    }
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
      established: (note & ESTABLISHED) !== 0,
    };
  }

  write({ locality, incoming, tpm }: GuestLink): void {
    const { bufferSize, powered, established } = tpm;
    const flags = (incoming ? INCOMING : 0) | (powered ? 0 : OFF) | (established ? ESTABLISHED : 0);
    this.memory.note = WRITTEN | locality | (bufferSize << BUFFER_SHIFT) | flags;
  }

  close(): void {
    this.memory.close();
  }
}
