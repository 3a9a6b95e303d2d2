// TPM 2.0 Library Part 3, 28: context management.
import { HANDLE_RANGE, handleType, inRange, SAVED_HANDLE, TPM_HT, TPM_RH } from '../../../tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../../tpm/response-code.js';
import { decode, type Schema } from '../../../tpm/schema.js';
import type { TPMS_CONTEXT } from '../../../tpm/structures/index.js';
import type { Handlers } from '../../dispatch/handler.js';
import { openContext, sealContext } from '../../objects/saved-context.js';
import { Sequence } from '../../sequences/sequence.js';
import type { LoadedObject } from '../../state/objects.js';
import type { TpmObject } from '../../state/object.js';
import type { Session } from '../../state/session.js';
import { fromStored, storedObject, toStored } from '../../state/stored/stored-object.js';
import { fromStoredSequence, storedSequence, toStoredSequence } from '../../state/stored/stored-sequence.js';
import { fromStoredSession, storedSession, toStoredSession } from '../../state/stored/stored-session.js';
import type { Tpm } from '../../tpm.js';

function saveObject(tpm: Tpm, object: TpmObject): TPMS_CONTEXT {
  const savedHandle = object.stClear ? SAVED_HANDLE.TRANSIENT_ST_CLEAR : SAVED_HANDLE.TRANSIENT;
  const header = { sequence: tpm.objects.nextContext(), savedHandle, hierarchy: object.hierarchy };
  return sealContext(tpm, header, storedObject, toStored(object));
}

function saveSequence(tpm: Tpm, sequence: Sequence): TPMS_CONTEXT {
  const header = { sequence: tpm.objects.nextContext(), savedHandle: SAVED_HANDLE.SEQUENCE, hierarchy: TPM_RH.NULL };
  return sealContext(tpm, header, storedSequence, toStoredSequence(sequence.save()));
}

/** A session exists once: in memory or in its newest context. */
function saveSession(tpm: Tpm, session: Session): TPMS_CONTEXT {
  const header = { sequence: tpm.sessions.markSaved(session), savedHandle: session.handle, hierarchy: TPM_RH.NULL };
  const context = sealContext(tpm, header, storedSession, toStoredSession(session));
  session.sessionKey.fill(0);
  return context;
}

/** What is in a context, as `read` makes it of a decoded value; it copies what it keeps. `TPM_RC_SIZE`, `TPM_RC_INTEGRITY`. */
async function restore<T, R>(tpm: Tpm, context: TPMS_CONTEXT, schema: Schema<T>, read: (value: T) => R | Promise<R>): Promise<R> {
  const clear = openContext(tpm, context);
  try {
    return await read(decode(schema, clear));
  } finally {
    clear.fill(0);
  }
}

/** The object in a context. It consists of views of the decrypted bytes. `TPM_RC_HIERARCHY` if its hierarchy is disabled. */
function restoreObject(tpm: Tpm, context: TPMS_CONTEXT): TpmObject {
  const stored = decode(storedObject, openContext(tpm, context));
  if (!tpm.hierarchies.get(context.hierarchy).enabled) throw new TpmError(TPM_RC.HIERARCHY);
  tpm.objects.requireSlot();
  return fromStored(stored, tpm.keys);
}

function restoreLoaded(tpm: Tpm, context: TPMS_CONTEXT): LoadedObject | Promise<LoadedObject> {
  if (context.savedHandle !== SAVED_HANDLE.SEQUENCE) return restoreObject(tpm, context);
  return restore(tpm, context, storedSequence, (stored) => {
    tpm.objects.requireSlot();
    return Sequence.restore(fromStoredSequence(stored));
  });
}

export const contextHandlers = {
  /** 28.2 */
  ContextSave: (tpm, _request, call) => {
    const entity = call.entity('saveHandle');
    const context =
      entity.kind === 'session'
        ? saveSession(tpm, entity.session)
        : entity.kind === 'sequence'
          ? saveSequence(tpm, entity.sequence)
          : saveObject(tpm, call.object('saveHandle'));
    tpm.power.disorder();
    return { context };
  },

  /** 28.3 */
  ContextLoad: async (tpm, { context }, call) => {
    if (handleType(context.savedHandle) === TPM_HT.TRANSIENT) {
      const loaded = await call.atAsync('context', async () => restoreLoaded(tpm, context));
      return { loadedHandle: tpm.objects.add(loaded) };
    }
    const session = await call.atAsync('context', () => restore(tpm, context, storedSession, fromStoredSession));
    if (!tpm.sessions.isSaved(session.handle, context.sequence)) throw call.error(TPM_RC.HANDLE, 'context');
    tpm.sessions.reload(session);
    tpm.power.disorder();
    return { loadedHandle: session.handle };
  },

  /** 28.4 */
  FlushContext: (tpm, { flushHandle }, call) => {
    const flushed = handleType(flushHandle) === TPM_HT.TRANSIENT ? tpm.objects.flush(flushHandle) : tpm.sessions.flush(flushHandle);
    if (!flushed) throw call.error(TPM_RC.HANDLE, 'flushHandle');
  },

  /** 28.5 */
  EvictControl: (tpm, { auth, persistentHandle }, call) => {
    const entity = call.entity('objectHandle');
    const object = entity.kind === 'object' ? entity.object : undefined;
    if (object?.privatePart === undefined || object.stClear || object.hierarchy === TPM_RH.NULL) {
      throw call.error(TPM_RC.ATTRIBUTES, 'objectHandle');
    }
    const isPersistent = handleType(entity.handle) === TPM_HT.PERSISTENT;
    if (isPersistent && entity.handle !== persistentHandle) throw call.error(TPM_RC.HANDLE, 'objectHandle');
    const byPlatform = auth === TPM_RH.PLATFORM;
    const ofPlatform = object.hierarchy === TPM_RH.PLATFORM;
    if (byPlatform ? !isPersistent && !ofPlatform : ofPlatform) throw call.error(TPM_RC.HIERARCHY, 'objectHandle');
    if (isPersistent) {
      tpm.persistent.remove(persistentHandle);
      return;
    }
    if (inRange(persistentHandle, HANDLE_RANGE.PLATFORM_PERSISTENT) !== byPlatform) throw call.error(TPM_RC.RANGE, 'persistentHandle');
    if (tpm.persistent.find(persistentHandle) !== undefined) throw call.error(TPM_RC.NV_DEFINED);
    tpm.persistent.add(persistentHandle, object);
  },
} satisfies Partial<Handlers>;
