// Part 3, 14, 19 and 20: asymmetric keys.
import {
  EC_Ephemeral,
  ECC_Parameters,
  ECDH_KeyGen,
  ECDH_ZGen,
  Hash,
  RSA_Decrypt,
  RSA_Encrypt,
  Sign,
  TestParms,
  VerifySignature,
  ZGen_2Phase,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_ST, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { digestSize } from '../../../src/tpm/hash.js';
import type { TPMS_ECC_POINT, TPMT_SIG_SCHEME_PLUS } from '../../../src/tpm/structures/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import type { LoadedObject } from '../model.js';
import { outputOf, type Symbolic } from '../symbols.js';
import { anyKind, hasAttributes, isAsymmetric, templateOf } from './templates.js';

const isRsa = ({ facts }: LoadedObject): boolean => facts?.template.type === TPM_ALG.RSA;
export const isEcc = ({ facts }: LoadedObject): boolean => facts?.template.type === TPM_ALG.ECC;

const signatures: ReadonlySet<number> = new Set([
  TPM_ALG.RSASSA,
  TPM_ALG.RSAPSS,
  TPM_ALG.ECDSA,
  TPM_ALG.ECDAA,
  TPM_ALG.SM2,
  TPM_ALG.ECSCHNORR,
  TPM_ALG.HMAC,
]);

/** A signature scheme, mostly one that suits the key. */
export function sigScheme(g: StepMaker, key: LoadedObject): TPMT_SIG_SCHEME_PLUS {
  const { choose } = g;
  const hashAlg = g.hash();
  const nil = { scheme: TPM_ALG.NULL, details: null } as const;
  const own = (key.facts?.template.parameters as { scheme?: TPMT_SIG_SCHEME_PLUS } | undefined)?.scheme;
  if (own !== undefined && signatures.has(own.scheme) && !choose.once(4)) return choose.of<TPMT_SIG_SCHEME_PLUS>(nil, nil, own);
  if (choose.once(30))
    return choose.of<TPMT_SIG_SCHEME_PLUS>(nil, { scheme: TPM_ALG.ECDAA, details: { hashAlg, count: choose.of(0, 1, 2) } });
  if (isRsa(key)) return { scheme: choose.of(TPM_ALG.RSASSA, TPM_ALG.RSAPSS), details: { hashAlg } };
  if (isEcc(key)) return { scheme: choose.of(TPM_ALG.ECDSA, TPM_ALG.ECDSA, TPM_ALG.ECSCHNORR, TPM_ALG.SM2), details: { hashAlg } };
  return { scheme: TPM_ALG.HMAC, details: { hashAlg } };
}

/** A key that signs. */
export function signingKey(g: StepMaker): LoadedObject {
  return g.object(
    (object) =>
      hasAttributes(object, TPMA_OBJECT.sign) && object.facts?.template.type !== TPM_ALG.SYMCIPHER && object.facts?.hasPrivate === true,
  );
}

function hashOf(scheme: TPMT_SIG_SCHEME_PLUS): number {
  return scheme.details === null ? TPM_ALG.SHA256 : scheme.details.hashAlg;
}

const noTicket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: none } as const;

function* sign(g: StepMaker): Plan {
  const { choose } = g;
  const key = signingKey(g);
  const inScheme = sigScheme(g, key);
  const own = key.facts?.template.parameters as { scheme?: TPMT_SIG_SCHEME_PLUS } | undefined;
  const alg = inScheme.details === null && own?.scheme?.details ? own.scheme.details.hashAlg : hashOf(inScheme);
  let digest = choose.bytes(digestSize(alg) + (choose.once(25) ? 1 : 0));
  let validation: unknown = choose.once(30) ? { ...noTicket, hierarchy: TPM_RH.OWNER, digest: choose.bytes(32) } : noTicket;
  if (hasAttributes(key, TPMA_OBJECT.restricted) && !choose.once(6)) {
    const hashed = g.symbol('hashed');
    const hierarchy = choose.of(TPM_RH.OWNER, TPM_RH.ENDORSEMENT, TPM_RH.PLATFORM);
    const data = choose.bytes(choose.of(0, 8, 300));
    const { ok, out } = yield g.command(Hash, { data, hashAlg: alg, hierarchy }, { save: { symbol: hashed }, exact: true });
    if (!ok) return;
    digest = Buffer.from(out['outHash'] as Buffer);
    validation = outputOf(hashed, 'validation');
  }
  const symbol = g.symbol('signature');
  const deterministic = key.facts?.external === true;
  const { ok } = yield g.command(Sign, { keyHandle: key, digest, inScheme, validation }, { save: { symbol }, deterministic });
  if (!ok || choose.once(3)) return;
  const checked = choose.once(10) ? choose.bytes(digest.length) : digest;
  const verified = g.symbol('verified');
  yield g.command(
    VerifySignature,
    { keyHandle: key, digest: checked, signature: outputOf(symbol, 'signature') },
    { save: { symbol: verified } },
  );
}

function rsaScheme(g: StepMaker): unknown {
  const hashAlg = g.hash();
  return g.choose.of<unknown>(
    { scheme: TPM_ALG.NULL, details: null },
    { scheme: TPM_ALG.RSAES, details: null },
    { scheme: TPM_ALG.OAEP, details: { hashAlg } },
  );
}

function* rsa(g: StepMaker): Plan {
  const { choose } = g;
  const keyHandle = g.object(isRsa);
  const inScheme = rsaScheme(g);
  const label = choose.of(none, none, Buffer.from('label\0'), Buffer.from('open'));
  const symbol = g.symbol('encrypted');
  // A full block is below every modulus, or above.
  const full = (first: number): Buffer => Buffer.concat([Buffer.of(first), choose.bytes(255)]);
  const message = choose.once(8) ? choose.of(full(0), full(0xff)) : choose.bytes(choose.of(0, 1, 16, 32, 32, 128, 245));
  const { ok } = yield g.command(RSA_Encrypt, { keyHandle, message, inScheme, label }, { save: { symbol } });
  const other = choose.once(10);
  const cipherText: Buffer | Symbolic = ok ? outputOf(symbol, 'outData') : choose.bytes(choose.of(256, 255, 1));
  yield g.command(
    RSA_Decrypt,
    { keyHandle, cipherText, inScheme: other ? rsaScheme(g) : inScheme, label },
    { deterministic: ok && !other },
  );
}

function curveOf(key: LoadedObject): number {
  const template = key.facts?.template;
  return template?.type === TPM_ALG.ECC ? template.parameters.curveID : TPM_ECC_CURVE.NIST_P256;
}

/** A key for a key exchange: mostly one that is no storage key. */
function exchangeKey(g: StepMaker): LoadedObject {
  const not = g.choose.once(10) ? 0 : TPMA_OBJECT.restricted;
  return g.object((object) => isEcc(object) && hasAttributes(object, TPMA_OBJECT.decrypt, not));
}

function* ecdh(g: StepMaker): Plan {
  const { choose } = g;
  const keyHandle = exchangeKey(g);
  const symbol = g.symbol('ecdh');
  const { ok } = yield g.command(ECDH_KeyGen, { keyHandle }, { save: { symbol } });
  const inPoint = ok && !choose.once(8) ? outputOf<TPMS_ECC_POINT>(symbol, 'pubPoint') : { x: choose.bytes(32), y: choose.bytes(32) };
  yield g.command(ECDH_ZGen, { keyHandle, inPoint });
}

function* twoPhase(g: StepMaker): Plan {
  const { choose } = g;
  const keyA = exchangeKey(g);
  const ephemeral = g.symbol('ephemeral');
  const { ok } = yield g.command(
    EC_Ephemeral,
    { curveID: choose.once(6) ? choose.of(...Object.values(TPM_ECC_CURVE).slice(1)) : curveOf(keyA) },
    { save: { symbol: ephemeral } },
  );
  if (!ok) return;
  const Q = outputOf<TPMS_ECC_POINT>(ephemeral, 'Q');
  const inScheme = choose.of(TPM_ALG.ECDH, TPM_ALG.ECDH, TPM_ALG.ECMQV, TPM_ALG.SM2);
  const counter = choose.once(8) ? choose.below(4) : outputOf(ephemeral, 'counter');
  yield g.command(ZGen_2Phase, { keyA, inQsB: Q, inQeB: Q, inScheme, counter });
}

function* parameters(g: StepMaker): Plan {
  if (g.choose.once(2)) {
    yield g.command(ECC_Parameters, { curveID: g.choose.of(...Object.values(TPM_ECC_CURVE).slice(1)) });
    return;
  }
  const { type, parameters: of } = templateOf(g, anyKind(g));
  yield g.command(TestParms, { parameters: { type, parameters: of } });
}

function* verify(g: StepMaker): Plan {
  const { choose } = g;
  const signature = { sigAlg: TPM_ALG.ECDSA, signature: { hash: g.hash(), signatureR: choose.bytes(32), signatureS: choose.bytes(32) } };
  yield g.command(VerifySignature, { keyHandle: g.object(isAsymmetric), digest: choose.bytes(32), signature });
}

export const asymmetricPlans: readonly WeightedPlan[] = [
  [12, sign],
  [3, rsa],
  [4, ecdh],
  [3, twoPhase],
  [3, parameters],
  [1, verify],
];
