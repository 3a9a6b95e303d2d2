// TPM 2.0 Library Part 3, 12: object commands.
import { admin, command, noAuth, user } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import {
  TPM2B_AUTH,
  TPM2B_CREATION_DATA,
  TPM2B_DATA,
  TPM2B_DIGEST,
  TPM2B_ENCRYPTED_SECRET,
  TPM2B_ID_OBJECT,
  TPM2B_NAME,
  TPM2B_PRIVATE,
  TPM2B_PUBLIC,
  TPM2B_PUBLIC_PLUS,
  TPM2B_SENSITIVE,
  TPM2B_SENSITIVE_CREATE,
  TPM2B_SENSITIVE_DATA,
  TPM2B_TEMPLATE,
  TPMI_DH_OBJECT,
  TPMI_DH_PARENT_PLUS,
  TPMI_RH_HIERARCHY_PLUS,
  TPML_PCR_SELECTION,
  TPMT_TK_CREATION,
  TPM_HANDLE,
} from '../../structures/index.js';

export const Create = command(TPM_CC.Create, 'Create', {
  section: '12.1',
  handles: { parentHandle: user(TPMI_DH_OBJECT) },
  in: { inSensitive: TPM2B_SENSITIVE_CREATE, inPublic: TPM2B_PUBLIC, outsideInfo: TPM2B_DATA, creationPCR: TPML_PCR_SELECTION },
  out: {
    outPrivate: TPM2B_PRIVATE,
    outPublic: TPM2B_PUBLIC,
    creationData: TPM2B_CREATION_DATA,
    creationHash: TPM2B_DIGEST,
    creationTicket: TPMT_TK_CREATION,
  },
});

export const Load = command(TPM_CC.Load, 'Load', {
  section: '12.2',
  handles: { parentHandle: user(TPMI_DH_OBJECT) },
  in: { inPrivate: TPM2B_PRIVATE, inPublic: TPM2B_PUBLIC },
  outHandle: { objectHandle: TPM_HANDLE },
  out: { name: TPM2B_NAME },
});

/** `inPrivate` is `null` for a public key alone. */
export const LoadExternal = command(TPM_CC.LoadExternal, 'LoadExternal', {
  section: '12.3',
  in: { inPrivate: TPM2B_SENSITIVE, inPublic: TPM2B_PUBLIC_PLUS, hierarchy: TPMI_RH_HIERARCHY_PLUS },
  outHandle: { objectHandle: TPM_HANDLE },
  out: { name: TPM2B_NAME },
});

export const ReadPublic = command(TPM_CC.ReadPublic, 'ReadPublic', {
  section: '12.4',
  handles: { objectHandle: noAuth(TPMI_DH_OBJECT) },
  out: { outPublic: TPM2B_PUBLIC_PLUS, name: TPM2B_NAME, qualifiedName: TPM2B_NAME },
});

export const ActivateCredential = command(TPM_CC.ActivateCredential, 'ActivateCredential', {
  section: '12.5',
  handles: { activateHandle: admin(TPMI_DH_OBJECT), keyHandle: user(TPMI_DH_OBJECT) },
  in: { credentialBlob: TPM2B_ID_OBJECT, secret: TPM2B_ENCRYPTED_SECRET },
  out: { certInfo: TPM2B_DIGEST },
});

export const MakeCredential = command(TPM_CC.MakeCredential, 'MakeCredential', {
  section: '12.6',
  handles: { handle: noAuth(TPMI_DH_OBJECT) },
  in: { credential: TPM2B_DIGEST, objectName: TPM2B_NAME },
  out: { credentialBlob: TPM2B_ID_OBJECT, secret: TPM2B_ENCRYPTED_SECRET },
});

export const Unseal = command(TPM_CC.Unseal, 'Unseal', {
  section: '12.7',
  handles: { itemHandle: user(TPMI_DH_OBJECT) },
  out: { outData: TPM2B_SENSITIVE_DATA },
});

export const ObjectChangeAuth = command(TPM_CC.ObjectChangeAuth, 'ObjectChangeAuth', {
  section: '12.8',
  handles: { objectHandle: admin(TPMI_DH_OBJECT), parentHandle: noAuth(TPMI_DH_OBJECT) },
  in: { newAuth: TPM2B_AUTH },
  out: { outPrivate: TPM2B_PRIVATE },
});

export const CreateLoaded = command(TPM_CC.CreateLoaded, 'CreateLoaded', {
  section: '12.9',
  handles: { parentHandle: user(TPMI_DH_PARENT_PLUS) },
  in: { inSensitive: TPM2B_SENSITIVE_CREATE, inPublic: TPM2B_TEMPLATE },
  outHandle: { objectHandle: TPM_HANDLE },
  out: { outPrivate: TPM2B_PRIVATE, outPublic: TPM2B_PUBLIC, name: TPM2B_NAME },
});
