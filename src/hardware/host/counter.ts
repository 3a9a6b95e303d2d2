// TPM 2.0 Library Part 1, 37.2.4: a counter in the chip's NV memory that cannot go back.
import { NV_DefineSpace, NV_Increment, NV_Read, NV_ReadPublic, NV_UndefineSpace } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_NT, TPM_RH, TPMA_NV, TPMA_NV_NT_SHIFT } from '../../tpm/constants/index.js';
import { hash } from '../../tpm/hash.js';
import { nameOfNvPublic } from '../../tpm/name.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { TPMS_NV_PUBLIC } from '../../tpm/structures/index.js';
import { ChipError, HostKeyError } from '../chip/errors.js';
import { listHandles } from '../chip/sender.js';
import type { HostTurns } from '../turns/turns.js';
import type { Turn } from '../turns/turn.js';

/** First NV index that is tried for the counter, in the owner's range (0x01800000 to 0x01bfffff). */
export const DEFAULT_COUNTER_INDEX = 0x01805450;
/** How many indices from the first one on are tried. */
export const COUNTER_INDICES = 16;

const SIZE = 8;
/**
 * Only its authValue reads and increments it: not the owner, and not the dictionary attack lockout of others. It is written at every
 * increment (not ORDERLY): one that is kept in memory would jump when power is lost.
 */
const ATTRIBUTES = ((TPM_NT.COUNTER << TPMA_NV_NT_SHIFT) | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA) >>> 0;

/** What a counter is made with. */
export interface HostCounterParts {
  readonly run: HostTurns;
  /** 32 secret bytes: whoever knows them can increment the counter. */
  readonly authValue: Buffer;
  /** What belongs to this counter alone, e.g. Names of the host's keys: it is recognized by that. */
  readonly owner: readonly Buffer[];
  /** Authorization value of the owner hierarchy, needed to define it. */
  readonly ownerAuth: Buffer;
}

/**
 * A monotonic counter of this host in the owner hierarchy. The owner can remove it; one that is then defined anew starts above every
 * value that any counter of the chip ever had (Part 3, 31.8), so it never counts through the same value twice. `TPM2_Clear` removes it too.
 */
export class HostCounter {
  /** `authPolicy` of the index: no policy has this digest, it only says whose the index is, as part of its Name. */
  private readonly mark: Buffer;

  constructor(private readonly parts: HostCounterParts) {
    this.mark = hash(TPM_ALG.SHA256, Buffer.from('tpmux host counter'), ...parts.owner);
  }

  /** The NV index of this host's counter among those from `first` on, or undefined if there is none. */
  find(first: number): Promise<number | undefined> {
    return this.parts.run(async (turn) => {
      for (const index of await this.occupied(turn, first)) if ((await this.nameOf(turn, index)) !== undefined) return index;
      return undefined;
    });
  }

  /**
   * Defines the counter at the first free index from `first` on; if it is there already, nothing happens. It has no value before it is
   * incremented. Rejects with {@link HostKeyError}, which says what to do.
   */
  define(first: number): Promise<number> {
    const { run, authValue, ownerAuth } = this.parts;
    return run(async (turn) => {
      const occupied = await this.occupied(turn, first);
      for (const index of occupied) if ((await this.nameOf(turn, index)) !== undefined) return index;
      const nvIndex = Array.from({ length: COUNTER_INDICES }, (_, i) => first + i).find((index) => !occupied.includes(index));
      if (nvIndex === undefined)
        throw new HostKeyError(
          `the NV indices from 0x${first.toString(16)} on are all occupied (configure another rollback.counter-index)`,
        );
      const request = { authHandle: TPM_RH.OWNER, auth: authValue, publicInfo: this.publicInfo(nvIndex, ATTRIBUTES) };
      try {
        await turn.execute(NV_DefineSpace, request, { authValue: ownerAuth });
      } catch (error) {
        throw explainDefinition(error);
      }
      return nvIndex;
    });
  }

  /** The counter's value; `unused` before the first increment; `missing` if the index is not there, or is not this host's. */
  read(nvIndex: number): Promise<bigint | 'unused' | 'missing'> {
    return this.parts.run((turn) => this.readNow(turn, nvIndex));
  }

  /**
   * Increments the counter if it has the value `from`, and resolves with its value. One that is beyond `from` already stays as it is, so
   * that an increment whose answer was lost is not repeated.
   */
  advance(nvIndex: number, from: bigint | 'unused'): Promise<bigint | 'unused' | 'missing'> {
    const { run, authValue } = this.parts;
    return run(async (turn) => {
      const value = await this.readNow(turn, nvIndex);
      if (value !== from) return value;
      const name = this.name(nvIndex, from !== 'unused');
      await turn.execute(NV_Increment, { authHandle: nvIndex, nvIndex }, { authValue, names: [name, name] });
      return await this.readNow(turn, nvIndex);
    });
  }

  /** Removes the counter, if it is this host's. */
  remove(nvIndex: number): Promise<void> {
    const { run, ownerAuth } = this.parts;
    return run(async (turn) => {
      if (!(await this.occupied(turn, nvIndex)).includes(nvIndex)) return;
      const found = await this.nameOf(turn, nvIndex);
      if (found === undefined) return;
      const names = [undefined, this.name(nvIndex, found === 'used')];
      await turn.execute(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex }, { authValue: ownerAuth, names });
    });
  }

  private async readNow(turn: Turn, nvIndex: number): Promise<bigint | 'unused' | 'missing'> {
    const { authValue } = this.parts;
    if (!(await this.occupied(turn, nvIndex)).includes(nvIndex)) return 'missing';
    const found = await this.nameOf(turn, nvIndex);
    if (found === undefined) return 'missing';
    if (found === 'unused') return 'unused';
    const name = this.name(nvIndex, true);
    const request = { authHandle: nvIndex, nvIndex, size: SIZE, offset: 0 };
    const { data } = await turn.execute(NV_Read, request, { authValue, names: [name, name] });
    if (data.length !== SIZE) throw new ChipError(NV_Read.name, TPM_RC.NV_SIZE);
    return data.readBigUInt64BE(0);
  }

  /** Whether the index is this host's counter, and was incremented. */
  private async nameOf(turn: Turn, nvIndex: number): Promise<'used' | 'unused' | undefined> {
    const { nvName } = await turn.execute(NV_ReadPublic, { nvIndex });
    if (nvName.equals(this.name(nvIndex, true))) return 'used';
    return nvName.equals(this.name(nvIndex, false)) ? 'unused' : undefined;
  }

  private async occupied(turn: Turn, first: number): Promise<number[]> {
    const indices = await listHandles(turn, first);
    return indices.filter((index) => index < first + COUNTER_INDICES);
  }

  private name(nvIndex: number, written: boolean): Buffer {
    return nameOfNvPublic(this.publicInfo(nvIndex, (ATTRIBUTES | (written ? TPMA_NV.WRITTEN : 0)) >>> 0));
  }

  private publicInfo(nvIndex: number, attributes: number): TPMS_NV_PUBLIC {
    return { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: this.mark, dataSize: SIZE };
  }
}

function explainDefinition(error: unknown): unknown {
  if (!(error instanceof ChipError)) return error;
  const because = { cause: error };
  const what = 'the counter that tells an older copy of the state cannot be made';
  const allow = 'or set rollback.when-detected to allow, to do without';
  switch (error.base) {
    case TPM_RC.BAD_AUTH:
    case TPM_RC.AUTH_FAIL:
      return new HostKeyError(
        `${what}: the owner authorization of the TPM is wrong (configure hardware.owner-auth-file, ${allow})`,
        because,
      );
    case TPM_RC.NV_SPACE:
      return new HostKeyError(`${what}: the TPM has no room for an NV index (remove one that is not needed, ${allow})`, because);
    case TPM_RC.ATTRIBUTES:
      return new HostKeyError(`${what}: the TPM has no such NV indices (${allow.slice(3)})`, because);
    default:
      return error;
  }
}
