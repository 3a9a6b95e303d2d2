// TPM 2.0 Library Part 3, 15.4 to 15.6 and 17: Hash, HMAC and MAC, and hash, MAC and event sequences.
import type {
  EventSequenceComplete,
  Hash,
  HashSequenceStart,
  HMAC,
  HMAC_Start,
  SequenceComplete,
  SequenceUpdate,
} from '../../../tpm/commands/index.js';
import { cmac } from '../../../crypto/cmac.js';
import { TPM_ALG, TPM_GENERATED, TPM_RH, TPMA_OBJECT } from '../../../tpm/constants/index.js';
import { digestSize, hash, hmac } from '../../../tpm/hash.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import { trimAuth } from '../../../tpm/session-crypto.js';
import type { TPMT_HA } from '../../../tpm/structures/index.js';
import type { PrivatePart } from '../../../keys/engine.js';
import type { Call } from '../../dispatch/call.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { Sequence } from '../../sequences/sequence.js';
import { hasAttribute } from '../../state/objects.js';
import type { TpmObject } from '../../state/object.js';
import { hashCheckTicket } from '../../signing/tickets.js';
import { withSecret } from '../../objects/with-secret.js';
import { extendPcr, requireExtendAllowed } from '../evidence/integrity.js';

/** Whether data with this beginning is none that only the TPM can have made; less than four bytes do not tell. */
function isForeign(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32BE(0) !== TPM_GENERATED;
}

/** 15.4. Data too short to be an attestation gets a ticket, unlike the first piece of a sequence. */
const hashCommand: Handler<typeof Hash> = (tpm, { data, hashAlg, hierarchy }) => {
  const outHash = hash(hashAlg, data);
  const signable = data.length < 4 || isForeign(data);
  return { outHash, validation: hashCheckTicket(tpm, signable ? hierarchy : TPM_RH.NULL, outHash) };
};

/** How a key makes a MAC: an HMAC of a keyedhash key, or a CMAC of a symcipher key. */
type MacKey = { readonly privatePart: PrivatePart } & (
  { readonly kind: 'hmac'; readonly hashAlg: number } | { readonly kind: 'cmac'; readonly algorithm: number }
);

/** What the key itself says of the scheme; TPM_ALG_NULL if nothing. `TPM_RC_TYPE` if such a key makes no MACs. */
function ownMacScheme(call: Call<'handle'>, { publicArea }: TpmObject): number {
  switch (publicArea.type) {
    case TPM_ALG.KEYEDHASH: {
      const { scheme } = publicArea.parameters;
      return scheme.scheme === TPM_ALG.NULL ? TPM_ALG.NULL : scheme.details.hashAlg;
    }
    case TPM_ALG.SYMCIPHER:
      return publicArea.parameters.sym.mode ?? TPM_ALG.NULL;
    default:
      throw call.error(TPM_RC.TYPE, 'handle');
  }
}

/** The MAC key that a handle stands for, and the scheme that it and the caller agree on. It was authorized, so its private part is there. */
function requireMacKey(call: Call<'handle', 'hashAlg'>, wanted: number): MacKey {
  const entity = call.entity('handle');
  if (entity.kind !== 'object') throw call.error(TPM_RC.TYPE, 'handle');
  const { publicArea, privatePart } = entity.object;
  const own = ownMacScheme(call, entity.object);
  const scheme = own === TPM_ALG.NULL ? wanted : own;
  if (scheme === TPM_ALG.NULL || (wanted !== TPM_ALG.NULL && wanted !== scheme)) throw call.error(TPM_RC.VALUE, 'hashAlg');
  const isCipher = publicArea.type === TPM_ALG.SYMCIPHER;
  if (isCipher ? scheme !== TPM_ALG.CMAC : digestSize(scheme) === 0) throw call.error(TPM_RC.SCHEME, 'hashAlg');
  if (hasAttribute(entity.object, TPMA_OBJECT.restricted)) throw call.error(TPM_RC.ATTRIBUTES, 'handle');
  if (!hasAttribute(entity.object, TPMA_OBJECT.sign) || privatePart === undefined) throw call.error(TPM_RC.KEY, 'handle');
  return isCipher
    ? { privatePart, kind: 'cmac', algorithm: publicArea.parameters.sym.algorithm }
    : { privatePart, kind: 'hmac', hashAlg: scheme };
}

/** 15.5 and 15.6 */
const mac: Handler<typeof HMAC> = async (_tpm, { hashAlg, buffer }, call) => {
  const key = requireMacKey(call, hashAlg);
  const outHMAC = await withSecret(key.privatePart, (secret) =>
    key.kind === 'hmac' ? hmac(key.hashAlg, secret, buffer) : cmac(key.algorithm, secret, buffer),
  );
  return { outHMAC };
};

/** 17.2 and 17.3 */
const macStart: Handler<typeof HMAC_Start> = async (tpm, request, call) => {
  const key = requireMacKey(call, request.hashAlg);
  tpm.objects.requireSlot();
  const auth = Buffer.from(trimAuth(request.auth));
  const sequence = await withSecret(key.privatePart, (secret) =>
    key.kind === 'hmac' ? Sequence.startHmac(key.hashAlg, secret, auth) : Sequence.startCmac(key.algorithm, secret, auth),
  );
  return { sequenceHandle: tpm.objects.add(sequence) };
};

/** 17.4: an event sequence if no hash is named. */
const hashSequenceStart: Handler<typeof HashSequenceStart> = async (tpm, { auth, hashAlg }) => {
  tpm.objects.requireSlot();
  const isEvent = hashAlg === TPM_ALG.NULL;
  const algs = isEvent ? tpm.pcrs.implementedBanks : [hashAlg];
  const sequence = await Sequence.start(isEvent ? 'event' : 'hash', algs, Buffer.from(trimAuth(auth)));
  return { sequenceHandle: tpm.objects.add(sequence) };
};

/** 17.5 */
const sequenceUpdate: Handler<typeof SequenceUpdate> = (_tpm, { buffer }, call) => {
  call.sequence('sequenceHandle').update(buffer);
};

/** 17.6 */
const sequenceComplete: Handler<typeof SequenceComplete> = (tpm, { sequenceHandle, buffer, hierarchy }, call) => {
  const sequence = call.sequence('sequenceHandle');
  if (sequence.type === 'event') throw call.error(TPM_RC.MODE, 'sequenceHandle');
  sequence.update(buffer);
  const signable = sequence.type === 'hash' && isForeign(sequence.head);
  const result = sequence.complete()[0]?.digest ?? Buffer.alloc(0);
  call.afterwards(() => tpm.objects.flush(sequenceHandle));
  return { result, validation: hashCheckTicket(tpm, signable ? hierarchy : TPM_RH.NULL, result) };
};

/** 17.7 */
const eventSequenceComplete: Handler<typeof EventSequenceComplete> = async (tpm, { pcrHandle, sequenceHandle, buffer }, call) => {
  const sequence = call.sequence('sequenceHandle');
  if (sequence.type !== 'event') throw call.error(TPM_RC.MODE, 'sequenceHandle');
  requireExtendAllowed(tpm, pcrHandle, call);
  sequence.update(buffer);
  const results = sequence.complete().map(({ alg, digest }) => ({ hashAlg: alg, digest }) as TPMT_HA);
  await extendPcr(tpm, pcrHandle, results, call).catch((error: unknown) => {
    // The PCR was extended: there is nothing left of the sequence.
    tpm.objects.flush(sequenceHandle);
    throw error;
  });
  call.afterwards(() => tpm.objects.flush(sequenceHandle));
  return { results };
};

export const hashHmacHandlers = {
  Hash: hashCommand,
  HMAC: mac,
  HMAC_Start: macStart,
  HashSequenceStart: hashSequenceStart,
  SequenceUpdate: sequenceUpdate,
  SequenceComplete: sequenceComplete,
  EventSequenceComplete: eventSequenceComplete,
} satisfies Partial<Handlers>;
