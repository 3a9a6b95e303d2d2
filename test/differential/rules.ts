// Which outputs of which command are random, or made of what is: everything that is not named here is the same on both TPMs.
import { TPM_ALG, TPM_CAP, TPM_PT } from '../../src/tpm/constants/index.js';
import { decode } from '../../src/tpm/schema.js';
import { TPMS_ATTEST } from '../../src/tpm/structures/index.js';
import { anything, decoded, fields, nameRule, type Rule, same, sameSize, unlessDeterministic } from './comparison.js';

/** Public key or digest of the secret: as long, the rest is chance. */
const unique: Rule = (path, ours, theirs, context) =>
  Buffer.isBuffer(ours) ? sameSize(path, ours, theirs, context) : fields({ x: sameSize, y: sameSize })(path, ours, theirs, context);
const publicArea = unlessDeterministic(fields({ unique, authPolicy: sameSize }));
/** Both empty, or both not: how long a ticket is is each TPM's own business. */
const ticketDigest: Rule = (path, ours, theirs) => {
  const [a, b] = [ours, theirs].map((value) => (Buffer.isBuffer(value) ? value.length > 0 : undefined));
  return a === b && a !== undefined ? [] : [{ path, ours, theirs }];
};
const ticket = fields({ digest: ticketDigest });
const name = unlessDeterministic(nameRule);
const creationData = fields({ parentName: nameRule, parentQualifiedName: nameRule, outsideInfo: same });
const point = fields({ x: sameSize, y: sameSize });

/** RSASSA and HMAC with a known key give one signature; the others draw a number, and sizes are those of the key. */
const signature: Rule = (path, ours, theirs, context) => {
  const { sigAlg } = ours as { sigAlg: number };
  const repeatable = context.step.deterministic && (sigAlg === TPM_ALG.RSASSA || sigAlg === TPM_ALG.HMAC);
  if (repeatable) return same(path, ours, theirs, context);
  const detail = fields({
    sig: sameSize,
    digest: sameSize,
    signatureR: sigAlg === TPM_ALG.ECDAA ? anything : sameSize,
    signatureS: sameSize,
  });
  return fields({ signature: detail })(path, ours, theirs, context);
};

/** Time differs; counters are obfuscated for those who may not know them. */
const clockInfo = fields({ clock: anything, resetCount: anything, restartCount: anything });
const attested = fields({
  name: nameRule,
  qualifiedName: nameRule,
  objectName: nameRule,
  creationHash: sameSize,
  time: fields({ time: anything, clockInfo }),
  firmwareVersion: anything,
  sessionDigest: sameSize,
  auditDigest: sameSize,
});
const attest = decoded(
  (bytes) => decode(TPMS_ATTEST, bytes),
  fields({ qualifiedSigner: nameRule, clockInfo, firmwareVersion: anything, attested }),
);
const attestation = { certifyInfo: attest, signature };

/** Properties by their numbers, so that a difference names the one that it is about. */
const capabilityData: Rule = (path, ours, theirs, context) => {
  const { capability } = ours as { capability: number };
  if (capability !== TPM_CAP.TPM_PROPERTIES) return same(path, ours, theirs, context);
  const byNumber = (value: unknown): Record<string, unknown> => {
    const { data } = value as { data: readonly { property: number; value: number }[] };
    return Object.fromEntries(data.map((tagged) => [propertyName(tagged.property), tagged.value]));
  };
  return fields({})('property', byNumber(ours), byNumber(theirs), context);
};

function propertyName(property: number): string {
  // The last name: FIXED and VAR are only where the groups begin.
  return Object.entries(TPM_PT).findLast(([, value]) => value === property)?.[0] ?? property.toString(16);
}

/** Rules by command and output; see the head of this file. */
const rules: Readonly<Record<string, Readonly<Record<string, Rule>>>> = {
  StartAuthSession: { nonceTPM: sameSize },
  Create: { outPrivate: anything, outPublic: publicArea, creationData, creationHash: sameSize, creationTicket: ticket },
  Load: { name },
  LoadExternal: { name },
  ReadPublic: { outPublic: publicArea, name, qualifiedName: name },
  ActivateCredential: {},
  MakeCredential: { credentialBlob: sameSize, secret: sameSize },
  ObjectChangeAuth: { outPrivate: anything },
  CreateLoaded: { outPrivate: anything, outPublic: publicArea, name },
  Duplicate: { encryptionKeyOut: sameSize, duplicate: sameSize, outSymSeed: sameSize },
  Rewrap: { outDuplicate: sameSize, outSymSeed: sameSize },
  Import: { outPrivate: anything },
  RSA_Encrypt: { outData: sameSize },
  RSA_Decrypt: { message: unlessDeterministic(sameSize) },
  ECDH_KeyGen: { zPoint: point, pubPoint: point },
  ECDH_ZGen: { outPoint: unlessDeterministic(point) },
  ZGen_2Phase: { outZ1: point, outZ2: point },
  EncryptDecrypt: { outData: unlessDeterministic(sameSize), ivOut: unlessDeterministic(sameSize) },
  EncryptDecrypt2: { outData: unlessDeterministic(sameSize), ivOut: unlessDeterministic(sameSize) },
  Hash: { validation: ticket },
  HMAC: { outHMAC: unlessDeterministic(sameSize) },
  GetRandom: { randomBytes: sameSize },
  SequenceComplete: { result: unlessDeterministic(sameSize), validation: ticket },
  Certify: attestation,
  CertifyCreation: attestation,
  Quote: { quoted: attest, signature },
  GetSessionAuditDigest: { auditInfo: attest, signature },
  GetCommandAuditDigest: { auditInfo: attest, signature },
  GetTime: { timeInfo: attest, signature },
  NV_Certify: attestation,
  CertifyX509: { addedToCertificate: unlessDeterministic(anything), tbsDigest: unlessDeterministic(sameSize), signature },
  Commit: { K: point, L: point, E: point },
  EC_Ephemeral: { Q: point },
  VerifySignature: { validation: ticket },
  Sign: { signature },
  PolicySigned: { timeout: sameSize, policyTicket: ticket },
  PolicySecret: { timeout: sameSize, policyTicket: ticket },
  PolicyGetDigest: { policyDigest: unlessDeterministic(sameSize) },
  CreatePrimary: { outPublic: publicArea, creationData, creationHash: sameSize, creationTicket: ticket, name: nameRule },
  GetCapability: { capabilityData },
  ContextSave: { context: fields({ contextBlob: anything }) },
  ReadClock: { currentTime: fields({ time: anything, clockInfo: fields({ clock: anything }) }) },
};

/** The rules of a command's outputs. */
export function rulesOf(command: string): Readonly<Record<string, Rule>> {
  return rules[command] ?? {};
}
