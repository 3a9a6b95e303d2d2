// TPM 2.0 Library Part 3, 13: duplication commands.
import { command, dup, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_DATA,
  TPM2B_ENCRYPTED_SECRET,
  TPM2B_NAME,
  TPM2B_PRIVATE,
  TPM2B_PUBLIC,
  TPMI_DH_OBJECT,
  TPMI_DH_OBJECT_PLUS,
  TPMT_SYM_DEF_OBJECT_PLUS,
} from '../../structures/index.js';

export const Duplicate = command(TPM_CC.Duplicate, 'Duplicate', {
  section: '13.1',
  handles: { objectHandle: dup(TPMI_DH_OBJECT), newParentHandle: noAuth(TPMI_DH_OBJECT_PLUS) },
  in: { encryptionKeyIn: TPM2B_DATA, symmetricAlg: TPMT_SYM_DEF_OBJECT_PLUS },
  out: { encryptionKeyOut: TPM2B_DATA, duplicate: TPM2B_PRIVATE, outSymSeed: TPM2B_ENCRYPTED_SECRET },
});

export const Rewrap = command(TPM_CC.Rewrap, 'Rewrap', {
  section: '13.2',
  handles: { oldParent: user(TPMI_DH_OBJECT_PLUS), newParent: noAuth(TPMI_DH_OBJECT_PLUS) },
  in: { inDuplicate: TPM2B_PRIVATE, name: TPM2B_NAME, inSymSeed: TPM2B_ENCRYPTED_SECRET },
  out: { outDuplicate: TPM2B_PRIVATE, outSymSeed: TPM2B_ENCRYPTED_SECRET },
});

export const Import = command(TPM_CC.Import, 'Import', {
  section: '13.3',
  handles: { parentHandle: user(TPMI_DH_OBJECT) },
  in: {
    encryptionKey: TPM2B_DATA,
    objectPublic: TPM2B_PUBLIC,
    duplicate: TPM2B_PRIVATE,
    inSymSeed: TPM2B_ENCRYPTED_SECRET,
    symmetricAlg: TPMT_SYM_DEF_OBJECT_PLUS,
  },
  out: { outPrivate: TPM2B_PRIVATE },
});
