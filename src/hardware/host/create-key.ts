// TPM 2.0 Library Part 3, 12.1: making an object below a parent in the chip.
import { encapsulate } from '../../crypto/secrets.js';
import { innerWrap, newInnerKey, outerWrap } from '../../crypto/outer-wrap.js';
import { Create, Import } from '../../tpm/commands/index.js';
import { nameOfPublic } from '../../tpm/name.js';
import { decode, encode } from '../../tpm/schema.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { TPM2B_SENSITIVE, TPMT_PUBLIC, type TPMT_SENSITIVE } from '../../tpm/structures/index.js';
import type { CommandSender } from '../chip/sender.js';
import type { LoadableKey, PersistentKey } from '../turns/slots.js';

/** An object as it is stored: contents of its `TPM2B_PUBLIC` and `TPM2B_PRIVATE`. */
export interface KeyBlobs {
  readonly publicArea: Buffer;
  readonly privateBlob: Buffer;
}

/** The secret part of what is created. */
export interface SensitiveInput {
  /** Authorization value, at most 32 bytes. */
  readonly authValue: Buffer;
  /** Data to seal, at most 128 bytes; empty for a key. */
  readonly data: Buffer;
}

const NOTHING: SensitiveInput = { authValue: Buffer.alloc(0), data: Buffer.alloc(0) };

/** Creates an object below the loaded `parent`, which needs no authValue. Part of a turn. */
export async function createUnder(
  sender: CommandSender,
  parent: PersistentKey,
  template: TPMT_PUBLIC,
  sensitive: SensitiveInput = NOTHING,
): Promise<KeyBlobs> {
  const { outPublic, outPrivate } = await sender.execute(
    Create,
    {
      parentHandle: parent.handle,
      inSensitive: { userAuth: sensitive.authValue, data: sensitive.data },
      inPublic: template,
      outsideInfo: Buffer.alloc(0),
      creationPCR: [],
    },
    { names: [parent.name] },
  );
  return { publicArea: encode(TPMT_PUBLIC, outPublic), privateBlob: Buffer.from(outPrivate) };
}

const INNER_CIPHER = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;

/**
 * Brings a key from outside below the loaded `parent`, an ECC storage key with AES-128 and SHA-256 that needs no authValue. The key
 * is encrypted for the parent (outer wrap) and for this command (inner wrap), as an encryptedDuplication parent demands. Part of a turn.
 */
export async function importUnder(
  sender: CommandSender,
  parent: PersistentKey & { readonly publicArea: TPMT_PUBLIC },
  publicArea: TPMT_PUBLIC,
  sensitive: TPMT_SENSITIVE,
): Promise<KeyBlobs> {
  const name = nameOfPublic(publicArea);
  const { secret: seed, encrypted: inSymSeed } = encapsulate(parent.publicArea, 'DUPLICATE');
  const encryptionKey = newInnerKey(INNER_CIPHER);
  const clear = encode(TPM2B_SENSITIVE, sensitive);
  try {
    const inner = innerWrap({ hashAlg: publicArea.nameAlg, symmetric: INNER_CIPHER }, encryptionKey, name, clear);
    const duplicate = outerWrap({ hashAlg: parent.publicArea.nameAlg, symmetric: INNER_CIPHER }, seed, name, inner);
    const request = {
      parentHandle: parent.handle,
      encryptionKey,
      objectPublic: publicArea,
      duplicate,
      inSymSeed,
      symmetricAlg: INNER_CIPHER,
    };
    const { outPrivate } = await sender.execute(Import, request, { names: [parent.name] });
    return { publicArea: encode(TPMT_PUBLIC, publicArea), privateBlob: Buffer.from(outPrivate) };
  } finally {
    for (const used of [seed, encryptionKey, clear]) used.fill(0);
  }
}

/** An object to be loaded below `parent` when it is used. `TPM_RC_*` of the codec if the public area is no `TPMT_PUBLIC`. */
export function loadable(blobs: KeyBlobs, parent: PersistentKey | LoadableKey): LoadableKey {
  const publicArea = decode(TPMT_PUBLIC, Buffer.from(blobs.publicArea), true);
  const privateBlob = Buffer.from(blobs.privateBlob);
  const name = nameOfPublic(publicArea);
  return { id: `${parent.name.toString('hex')}/${name.toString('hex')}`, name, parent, publicArea, privateBlob };
}
