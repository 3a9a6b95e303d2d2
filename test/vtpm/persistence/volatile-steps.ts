// Commands for tests of what the volatile state of a vTPM is.
import fc from 'fast-check';
import {
  FlushContext,
  GetCapability,
  HashSequenceStart,
  HierarchyControl,
  NV_DefineSpace,
  NV_Increment,
  NV_Read,
  NV_ReadLock,
  NV_Write,
  PCR_Extend,
  PCR_Read,
  PCR_Reset,
  SequenceComplete,
  SequenceUpdate,
  SetCommandCodeAuditStatus,
  Shutdown,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_NT, TPM_RH, TPM_SU, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { frame, none, password } from '../../support/frames.js';

const { SHA256 } = TPM_ALG;

/** Commands whose answers are a function of the state, as far as they succeed. */
export const volatileStep = fc.oneof(
  fc.tuple(fc.nat(23), fc.nat(4), fc.nat(255)).map(([pcrHandle, locality, byte]) => ({
    bytes: frame(PCR_Extend, { pcrHandle, digests: [{ hashAlg: SHA256, digest: Buffer.alloc(32, byte) }] }),
    locality,
  })),
  fc.nat(23).map((pcrHandle) => ({ bytes: frame(PCR_Reset, { pcrHandle }), locality: 0 })),
  fc
    .constantFrom(SHA256, TPM_ALG.SHA1, TPM_ALG.NULL)
    .map((hashAlg) => ({ bytes: frame(HashSequenceStart, { auth: none, hashAlg }), locality: 0 })),
  fc.tuple(fc.nat(4), fc.uint8Array({ maxLength: 200 })).map(([slot, data]) => ({
    bytes: frame(SequenceUpdate, { sequenceHandle: 0x80000000 + slot, buffer: Buffer.from(data) }),
    locality: 0,
  })),
  fc.nat(4).map((slot) => ({
    bytes: frame(SequenceComplete, { sequenceHandle: 0x80000000 + slot, buffer: none, hierarchy: TPM_RH.OWNER }),
    locality: 0,
  })),
  fc.nat(4).map((slot) => ({ bytes: frame(FlushContext, { flushHandle: 0x80000000 + slot }), locality: 0 })),
  fc.tuple(fc.nat(3), fc.boolean(), fc.boolean()).map(([index, counter, orderly]) => {
    const attributes =
      TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.READ_STCLEAR | (orderly ? TPMA_NV.ORDERLY : 0) | (counter ? TPM_NT.COUNTER << 4 : 0);
    const publicInfo = {
      nvIndex: 0x01500000 + index,
      nameAlg: SHA256,
      attributes: attributes >>> 0,
      authPolicy: none,
      dataSize: 8,
    } as const;
    return { bytes: frame(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo }), locality: 0 };
  }),
  ...[NV_Increment, NV_ReadLock].map((command) =>
    fc.nat(3).map((index) => ({ bytes: frame(command, { authHandle: 0x01500000 + index, nvIndex: 0x01500000 + index }), locality: 0 })),
  ),
  fc.tuple(fc.nat(3), fc.uint8Array({ minLength: 8, maxLength: 8 })).map(([index, data]) => ({
    bytes: frame(NV_Write, { authHandle: 0x01500000 + index, nvIndex: 0x01500000 + index, data: Buffer.from(data), offset: 0 }),
    locality: 0,
  })),
  fc.nat(3).map((index) => ({
    bytes: frame(NV_Read, { authHandle: 0x01500000 + index, nvIndex: 0x01500000 + index, size: 8, offset: 0 }),
    locality: 0,
  })),
  fc.tuple(fc.constantFrom(TPM_RH.OWNER, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM), fc.constantFrom<0 | 1>(0, 1)).map(([enable, state]) => ({
    bytes: frame(HierarchyControl, { authHandle: TPM_RH.PLATFORM, enable, state }),
    locality: 0,
  })),
  fc.nat(3).map((index) => ({
    bytes: frame(NV_Read, { authHandle: 0x01500000 + index, nvIndex: 0x01500000 + index, size: 8, offset: 0 }, [password('no')]),
    locality: 0,
  })),
  fc.constantFrom(TPM_SU.CLEAR, TPM_SU.STATE).map((shutdownType) => ({ bytes: frame(Shutdown, { shutdownType }), locality: 0 })),
  fc.constantFrom<number[]>([TPM_CC.GetRandom], [TPM_CC.PCR_Extend, TPM_CC.PCR_Read]).map((setList) => ({
    bytes: frame(SetCommandCodeAuditStatus, { auth: TPM_RH.OWNER, auditAlg: TPM_ALG.NULL, setList, clearList: [] }),
    locality: 0,
  })),
  fc.tuple(fc.nat(2), fc.nat(30)).map(([first, property]) => ({
    bytes: frame(GetCapability, {
      capability: first === 0 ? TPM_CAP.PCR_PROPERTIES : TPM_CAP.TPM_PROPERTIES,
      property: 0x200 + property,
      propertyCount: 4,
    }),
    locality: 0,
  })),
  fc.constantFrom('ff0000', '00ff00', '0000ff').map((hex) => ({
    bytes: frame(PCR_Read, { pcrSelectionIn: [{ hash: SHA256, pcrSelect: Buffer.from(hex, 'hex') }] }),
    locality: 0,
  })),
);
