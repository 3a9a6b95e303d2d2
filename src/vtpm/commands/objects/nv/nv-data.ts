// TPM 2.0 Library Part 3, 31.7 to 31.10 and 31.13: data of NV indices.
import { MAX_NV_BUFFER_SIZE, nvType, TPM_NT, TPMA_NV } from '../../../../tpm/constants/index.js';
import { hash } from '../../../../tpm/hash.js';
import { TPM_RC } from '../../../../tpm/response-code.js';
import type { Call } from '../../../dispatch/call.js';
import type { Handlers } from '../../../dispatch/handler.js';
import { checkReadAccess, checkWriteAccess } from '../../../dispatch/nv-access.js';
import { nvHas, type NvIndex } from '../../../state/nv.js';
import type { Tpm } from '../../../tpm.js';

/** Types that have commands of their own to change them. */
const unwritableTypes: readonly number[] = [TPM_NT.COUNTER, TPM_NT.BITS, TPM_NT.EXTEND];

/** The index of a command that changes indices of one type only. `TPM_RC_ATTRIBUTES` at the index if it is of another. */
function writableIndex(call: Call<'nvIndex'>, authHandle: number, type: number): NvIndex {
  const index = call.nvIndex('nvIndex');
  checkWriteAccess(authHandle, index);
  if (nvType(index.publicArea.attributes) !== type) throw call.error(TPM_RC.ATTRIBUTES, 'nvIndex');
  return index;
}

/** Writes; an orderly index is in memory only, so that memory and the last shutdown differ from now on. */
function write(tpm: Tpm, index: NvIndex, offset: number, data: Buffer): void {
  if (nvHas(index, TPMA_NV.ORDERLY)) tpm.power.disorder();
  tpm.nv.write(index, offset, data);
}

function writeNumber(tpm: Tpm, index: NvIndex, value: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  write(tpm, index, 0, bytes);
}

/** Value of a counter or of bits; undefined if it was never written. */
function readNumber(index: NvIndex): bigint | undefined {
  return nvHas(index, TPMA_NV.WRITTEN) ? index.data.readBigUInt64BE() : undefined;
}

export const nvDataHandlers = {
  /** 31.7 */
  NV_Write: (tpm, { authHandle, data, offset }, call) => {
    const index = call.nvIndex('nvIndex');
    const { attributes, dataSize } = index.publicArea;
    checkWriteAccess(authHandle, index);
    if (unwritableTypes.includes(nvType(attributes))) throw call.error(TPM_RC.ATTRIBUTES);
    if (offset > dataSize) throw call.error(TPM_RC.VALUE, 'offset');
    if (data.length > dataSize - offset) throw call.error(TPM_RC.NV_RANGE);
    if (nvHas(index, TPMA_NV.WRITEALL) && data.length < dataSize) throw call.error(TPM_RC.NV_RANGE);
    write(tpm, index, offset, data);
  },

  /** 31.8 */
  NV_Increment: (tpm, { authHandle }, call) => {
    const index = writableIndex(call, authHandle, TPM_NT.COUNTER);
    const count = readNumber(index);
    writeNumber(tpm, index, count === undefined ? tpm.nv.firstCount : count + 1n);
  },

  /** 31.9 */
  NV_Extend: (tpm, { authHandle, data }, call) => {
    const index = writableIndex(call, authHandle, TPM_NT.EXTEND);
    const old = nvHas(index, TPMA_NV.WRITTEN) ? index.data : Buffer.alloc(index.data.length);
    write(tpm, index, 0, hash(index.publicArea.nameAlg, old, data));
  },

  /** 31.10 */
  NV_SetBits: (tpm, { authHandle, bits }, call) => {
    const index = writableIndex(call, authHandle, TPM_NT.BITS);
    writeNumber(tpm, index, (readNumber(index) ?? 0n) | bits);
  },

  /** 31.13 */
  NV_Read: (_tpm, { authHandle, size, offset }, call) => {
    const index = call.nvIndex('nvIndex');
    checkReadAccess(authHandle, index);
    if (size > MAX_NV_BUFFER_SIZE) throw call.error(TPM_RC.VALUE, 'size');
    if (offset > index.data.length) throw call.error(TPM_RC.VALUE, 'offset');
    if (size > index.data.length - offset) throw call.error(TPM_RC.NV_RANGE);
    return { data: index.data.subarray(offset, offset + size) };
  },
} satisfies Partial<Handlers>;
