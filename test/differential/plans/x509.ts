// Part 3, 18.8: certificates.
import { bitString, DER_TAG, element, objectIdentifier, sequence } from '../../../src/crypto/der.js';
import { CertifyX509, LoadExternal } from '../../../src/tpm/commands/index.js';
import { TPM_RH, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import { type Outcome, type Plan, type StepMaker, type WeightedPlan } from '../generator.js';
import { LoadedObject } from '../model.js';
import type { Step } from '../step.js';
import { signingKey, sigScheme } from './asymmetric.js';
import { externalPair } from './external-keys.js';
import { makeRoom } from './object.js';
import { hasAttributes, isAsymmetric } from './templates.js';

const name = (text: string): Buffer => sequence(element(0x31, sequence(objectIdentifier('2.5.4.3'), element(0x0c, Buffer.from(text)))));
const validity = sequence(element(0x17, Buffer.from('260101000000Z')), element(0x17, Buffer.from('360101000000Z')));
const ecdsaWithSha256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
const octets = (content: Buffer): Buffer => element(DER_TAG.OCTET_STRING, content);
const critical = element(1, Buffer.of(0xff));

function keyUsage(bits: number): Buffer {
  return sequence(objectIdentifier('2.5.29.15'), critical, octets(element(DER_TAG.BIT_STRING, Buffer.of(0, bits))));
}

function attributesExtension(attributes: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(attributes >>> 0);
  return sequence(objectIdentifier('2.23.133.10.1.1.1'), octets(bitString(bytes)));
}

/** What a caller gives; now and then with something wrong. */
function partialCertificate(g: StepMaker, attributes: number): Buffer {
  const { choose } = g;
  const extensions = [
    ...(choose.once(15) ? [] : [keyUsage(choose.of(0x80, 0x80, 0x80, 0x04, 0x20, 0x40, 0x08, 0x00, 0xff))]),
    ...(choose.once(4) ? [attributesExtension(choose.once(4) ? attributes ^ 0x10000 : attributes)] : []),
  ];
  const parts = [
    ...(choose.once(4) ? [ecdsaWithSha256] : []),
    name('issuer'),
    validity,
    name('subject'),
    ...(choose.once(25) ? [name('too many')] : []),
    ...(choose.once(25) ? [] : [element(DER_TAG.CONTEXT + 3, sequence(...extensions))]),
  ];
  const whole = sequence(...parts);
  if (choose.once(20)) return whole.subarray(0, choose.below(whole.length));
  if (choose.once(20)) {
    const at = choose.below(whole.length);
    whole[at] = (whole[at] ?? 0) ^ (1 << choose.below(8));
  }
  return whole;
}

/** Loads a key with its private part from outside. */
function* loadKey(g: StepMaker): Generator<Step, LoadedObject | undefined, Outcome> {
  yield* makeRoom(g);
  const { publicArea, inPrivate } = externalPair(g);
  const symbol = g.symbol('subject');
  const request = { inPrivate, inPublic: publicArea, hierarchy: TPM_RH.NULL };
  const { ok } = yield g.command(LoadExternal, request, { save: { symbol }, deterministic: true, exact: true });
  if (!ok) return undefined;
  const facts = { template: publicArea, hierarchy: TPM_RH.NULL, external: true, knownSecret: true, hasPrivate: true };
  const key = LoadedObject.transient(symbol, inPrivate?.authValue ?? none, facts);
  g.model.loaded.push(key);
  return key;
}

function* certify(g: StepMaker): Plan {
  const { choose, model } = g;
  const suits = (object: LoadedObject): boolean => isAsymmetric(object) && hasAttributes(object, TPMA_OBJECT.sign);
  const external = choose.once(2) || !model.objects.some(suits) ? yield* loadKey(g) : undefined;
  const objectHandle = external ?? g.object(suits);
  // A handle of NULL ends libtpms: see `certificates signed by nobody` in explained.ts.
  const signHandle = external !== undefined && choose.once(2) ? external : signingKey(g);
  const inScheme = sigScheme(g, signHandle);
  const deterministic = objectHandle.facts?.external === true && signHandle === objectHandle;
  const reserved = choose.once(40) ? Buffer.of(0) : none;
  const certificate = partialCertificate(g, objectHandle.facts?.template.objectAttributes ?? 0);
  yield g.command(CertifyX509, { objectHandle, signHandle, reserved, inScheme, partialCertificate: certificate }, { deterministic });
}

export const x509Plans: readonly WeightedPlan[] = [[4, certify]];
