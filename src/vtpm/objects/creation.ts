// TPM 2.0 Library Part 2, 15: creation data.
import { TPM_ALG } from '../../tpm/constants/index.js';
import { hash } from '../../tpm/hash.js';
import { nameOfHandle } from '../../tpm/name.js';
import { encode } from '../../tpm/schema.js';
import { TPMS_CREATION_DATA, type TPML_PCR_SELECTION, type TPMT_TK_CREATION } from '../../tpm/structures/index.js';
import type { Entity } from '../dispatch/entity.js';
import type { TpmObject } from '../state/object.js';
import { creationTicket } from '../signing/tickets.js';
import type { Tpm } from '../tpm.js';

/** The circumstances in which an object was created, as Create and CreatePrimary return them. */
export interface Creation {
  readonly creationData: TPMS_CREATION_DATA;
  /** Digest of {@link creationData} with the object's nameAlg. */
  readonly creationHash: Buffer;
  readonly creationTicket: TPMT_TK_CREATION;
}

/** What a caller says of the circumstances. */
export interface CreationInput {
  readonly outsideInfo: Buffer;
  readonly creationPCR: TPML_PCR_SELECTION;
  readonly locality: number;
}

/** Creation data, hash and ticket of `object` under a parent, which is an object or a hierarchy. */
export function describeCreation(tpm: Tpm, object: TpmObject, parent: Entity, input: CreationInput): Creation {
  const { nameAlg } = object.publicArea;
  const parentObject = parent.kind === 'object' ? parent.object : undefined;
  const creationData: TPMS_CREATION_DATA = {
    pcrSelect: tpm.pcrs.filter(input.creationPCR),
    pcrDigest: tpm.pcrs.digestOf(input.creationPCR, nameAlg),
    locality: 1 << input.locality,
    parentNameAlg: parentObject?.publicArea.nameAlg ?? TPM_ALG.NULL,
    parentName: parentObject?.name ?? nameOfHandle(parent.handle),
    parentQualifiedName: parentObject?.qualifiedName ?? nameOfHandle(parent.handle),
    outsideInfo: input.outsideInfo,
  };
  const creationHash = hash(nameAlg, encode(TPMS_CREATION_DATA, creationData));
  return { creationData, creationHash, creationTicket: creationTicket(tpm, object.hierarchy, object.name, creationHash) };
}
