// Part 3, 18: attestation.
import {
  Certify,
  CertifyCreation,
  CertifyX509,
  GetCommandAuditDigest,
  GetSessionAuditDigest,
  GetTime,
  Quote,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_ST } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { Entity } from '../model.js';
import { handleOf, outputOf } from '../symbols.js';
import { signingKey, sigScheme } from './asymmetric.js';

/** Key, scheme and qualifying data of an attestation; NULL and no scheme in one of six cases. */
function signer(g: StepMaker): { signHandle: Entity; inScheme: unknown; qualifyingData: Buffer } {
  const { choose } = g;
  const qualifyingData = choose.once(2) ? none : choose.bytes(choose.of(1, 20, 66));
  if (choose.once(6)) return { signHandle: new Entity(TPM_RH.NULL), inScheme: { scheme: TPM_ALG.NULL, details: null }, qualifyingData };
  const signHandle = signingKey(g);
  return { signHandle, inScheme: sigScheme(g, signHandle), qualifyingData };
}

function* certify(g: StepMaker): Plan {
  yield g.command(Certify, { objectHandle: g.object(), ...signer(g) });
}

function* certifyCreation(g: StepMaker): Plan {
  const { choose, model } = g;
  const objectHandle = g.object();
  const primary = model.loaded.find(({ symbol }) => symbol.startsWith('primary'));
  const object = primary !== undefined && choose.once(2) ? primary : objectHandle;
  const isPrimary = object.symbol.startsWith('primary');
  const creationHash = isPrimary && !choose.once(10) ? outputOf(object.symbol, 'creationHash') : choose.bytes(32);
  const creationTicket = isPrimary
    ? outputOf(object.symbol, 'creationTicket')
    : { tag: TPM_ST.CREATION, hierarchy: TPM_RH.OWNER, digest: choose.bytes(64) };
  yield g.command(CertifyCreation, { objectHandle: object, ...signer(g), creationHash, creationTicket });
}

function* quote(g: StepMaker): Plan {
  yield g.command(Quote, { ...signer(g), PCRselect: g.pcrSelection() });
}

function* auditDigest(g: StepMaker): Plan {
  const { choose, model } = g;
  if (choose.once(2)) {
    yield g.command(GetCommandAuditDigest, { privacyHandle: model.endorsement, ...signer(g) });
    return;
  }
  const sessions = model.sessions.filter(({ saved }) => saved === undefined);
  const sessionHandle = sessions.length === 0 ? 0x02000000 : handleOf(choose.of(...sessions).symbol);
  yield g.command(GetSessionAuditDigest, { privacyAdminHandle: model.endorsement, ...signer(g), sessionHandle });
}

function* time(g: StepMaker): Plan {
  yield g.command(GetTime, { privacyAdminHandle: g.model.endorsement, ...signer(g) });
}

/** Key usage digitalSignature and some subject, as CertifyX509 takes them. */
const partialCertificate = Buffer.from(
  '30563000301e170d3230303130313030303030305a170d3330303130313030303030305a300c310a300806035504030c0161302a3010060355' +
    '1d0f0101ff0406030204800300003016060355' +
    '1d200101ff040c300a3008060667810501',
  'hex',
);

function* x509(g: StepMaker): Plan {
  yield g.command(CertifyX509, { objectHandle: g.object(), ...signer(g), reserved: none, partialCertificate, qualifyingData: undefined });
}

export const attestationPlans: readonly WeightedPlan[] = [
  [5, certify],
  [4, certifyCreation],
  [5, quote],
  [5, auditDigest],
  [3, time],
  [1, x509],
];
