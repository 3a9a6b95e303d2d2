// The host's own keys in the chip: host root and migration authority.
import type { Response } from '../../tpm/command.js';
import { CreatePrimary, EvictControl, ReadPublic } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_RH } from '../../tpm/constants/index.js';
import { nameOfPublic } from '../../tpm/name.js';
import { TPM_RC } from '../../tpm/response-code.js';
import { encode } from '../../tpm/schema.js';
import { TPMT_PUBLIC, type TPMS_ECC_POINT } from '../../tpm/structures/index.js';
import type { Chip } from '../chip/chip.js';
import { flushedAfter, listHandles, type CommandSender } from '../chip/sender.js';
import { ChipCleared, ChipError, HostKeyError } from '../chip/errors.js';
import type { PersistentKey } from '../turns/slots.js';
import { HOST_ROOT_TEMPLATE, TEMPORARY_ROOT_TEMPLATE } from './templates.js';

/** Where the host root is unless configured otherwise. */
export const DEFAULT_HOST_ROOT_HANDLE = 0x81005450;

/** What the store keeps about the host's keys; plain JSON. None of it is secret. */
export interface HostRecords {
  /** Name of the host root, hexadecimal. */
  readonly hostRootName: string;
  /** The migration authority, a child of the host root; base64. */
  readonly migrationAuthority: { readonly public: string; readonly private: string };
}

/** The host root in the chip. */
export interface HostRoot extends PersistentKey {
  readonly publicArea: TPMT_PUBLIC;
  readonly point: TPMS_ECC_POINT;
}

/** What {@link openHostRoot} needs. */
export interface HostRootOptions {
  readonly handle: number;
  /** Authorization value of the owner hierarchy; used only when the host root is made. */
  readonly ownerAuth: Buffer;
  /** Name that the host root must have; undefined at the first start. */
  readonly recordedName: string | undefined;
}

/**
 * Finds the host root, or makes it and puts it at its persistent handle. Rejects with {@link HostKeyError} if another key is
 * there, if it is not the recorded one, or if the owner authorization is wrong.
 */
export async function openHostRoot(chip: Chip, options: HostRootOptions): Promise<HostRoot> {
  const [first] = await listHandles(chip, options.handle);
  const root = first === options.handle ? await readHostRoot(chip, options.handle) : await createHostRoot(chip, options);
  requireRecorded(root, options);
  return root;
}

/** Rejects with {@link ChipCleared} if the host root is not in the chip any more. */
export async function verifyHostRoot(sender: CommandSender, { handle, name }: HostRoot): Promise<void> {
  const wayOut =
    'the keys of its guests are lost unless the TPM that they were made in is put back; nothing was changed or made anew in this one';
  try {
    const { outPublic } = await sender.execute(ReadPublic, { objectHandle: handle });
    if (nameOfPublic(outPublic).equals(name)) return;
  } catch (error) {
    if (!(error instanceof ChipError) || error.base !== TPM_RC.HANDLE) throw error;
    throw new ChipCleared(`the TPM was cleared or replaced, or its key ${hex(handle)} removed: ${wayOut}`, { cause: error });
  }
  throw new ChipCleared(`the TPM was cleared or replaced, its key ${hex(handle)} is another one: ${wayOut}`);
}

async function readHostRoot(sender: CommandSender, handle: number): Promise<HostRoot> {
  const { outPublic } = await sender.execute(ReadPublic, { objectHandle: handle });
  const root = asHostRoot(handle, outPublic);
  if (root === undefined || !matchesTemplate(outPublic)) {
    throw new HostKeyError(
      `the persistent handle ${hex(handle)} of the TPM is occupied by another key ` +
        `(configure another handle for the host root, or free this one with: tpm2_evictcontrol -C o -c ${hex(handle)})`,
    );
  }
  return root;
}

async function createHostRoot(chip: Chip, options: HostRootOptions): Promise<HostRoot> {
  const dropSession = options.ownerAuth.length > 0 ? await startTemporarySession(chip) : undefined;
  try {
    const { objectHandle, outPublic } = await createPrimary(chip, TPM_RH.OWNER, HOST_ROOT_TEMPLATE, options.ownerAuth);
    const root = asHostRoot(options.handle, outPublic);
    if (root === undefined) throw new HostKeyError('the TPM made another key than it was asked for as host root');
    await flushedAfter(chip, objectHandle, async () => {
      requireRecorded(root, options);
      const request = { auth: TPM_RH.OWNER, objectHandle, persistentHandle: options.handle };
      await chip.execute(EvictControl, request, { authValue: options.ownerAuth, names: [undefined, root.name] });
    });
    return root;
  } catch (error) {
    throw explainCreation(error, options.handle);
  } finally {
    await dropSession?.();
  }
}

async function createPrimary(
  sender: CommandSender,
  primaryHandle: number,
  inPublic: TPMT_PUBLIC,
  authValue: Buffer,
): Promise<Response<typeof CreatePrimary>> {
  const nothing = Buffer.alloc(0);
  const request = {
    primaryHandle,
    inSensitive: { userAuth: nothing, data: nothing },
    inPublic,
    outsideInfo: nothing,
    creationPCR: [],
  };
  return await sender.execute(CreatePrimary, request, { authValue });
}

/**
 * Before there is a host root, the owner authorization is hidden by a session whose secret is agreed with a temporary key.
 * Returns what ends that.
 */
async function startTemporarySession(chip: Chip): Promise<() => Promise<void>> {
  const { objectHandle, outPublic } = await createPrimary(chip, TPM_RH.NULL, TEMPORARY_ROOT_TEMPLATE, Buffer.alloc(0));
  if (outPublic.type !== TPM_ALG.ECC) throw new HostKeyError('the TPM made another key than it was asked for');
  chip.authorizeWith({ handle: objectHandle, point: outPublic.unique });
  return async () => {
    await chip.endSession();
    await chip.flush(objectHandle);
  };
}

function explainCreation(error: unknown, handle: number): unknown {
  if (!(error instanceof ChipError)) return error;
  const because = { cause: error };
  switch (error.base) {
    case TPM_RC.BAD_AUTH:
    case TPM_RC.AUTH_FAIL:
      return new HostKeyError(
        'the host root cannot be made: the owner authorization of the TPM is wrong (configure the authorization value of its owner hierarchy: hardware.owner-auth-file)',
        because,
      );
    case TPM_RC.HIERARCHY:
      return new HostKeyError('the host root cannot be made: the owner hierarchy of the TPM is disabled (enable it)', because);
    case TPM_RC.NV_SPACE:
      return new HostKeyError(
        'the host root cannot be made: the TPM has no room for a persistent key (evict one that is not needed)',
        because,
      );
    case TPM_RC.RANGE:
      return new HostKeyError(`the host root cannot be made: ${hex(handle)} is no persistent handle of the owner`, because);
    default:
      return error;
  }
}

function asHostRoot(handle: number, publicArea: TPMT_PUBLIC): HostRoot | undefined {
  if (publicArea.type !== TPM_ALG.ECC) return undefined;
  return { handle, name: nameOfPublic(publicArea), publicArea, point: publicArea.unique };
}

/** Whether it is a key of the host root's kind: the same but for its public point. */
function matchesTemplate(publicArea: TPMT_PUBLIC): boolean {
  if (publicArea.type !== TPM_ALG.ECC || HOST_ROOT_TEMPLATE.type !== TPM_ALG.ECC) return false;
  const asTemplate = { ...publicArea, unique: HOST_ROOT_TEMPLATE.unique };
  return encode(TPMT_PUBLIC, asTemplate).equals(encode(TPMT_PUBLIC, HOST_ROOT_TEMPLATE));
}

function requireRecorded(root: HostRoot, { handle, recordedName }: HostRootOptions): void {
  if (recordedName === undefined || root.name.toString('hex') === recordedName) return;
  throw new HostKeyError(
    `the host root at ${hex(handle)} is not the one that the stored state was made with: ` +
      'the TPM was cleared, or it is another TPM (put the right state directory and TPM together, or start with an empty state directory)',
  );
}

function hex(handle: number): string {
  return `0x${handle.toString(16)}`;
}
