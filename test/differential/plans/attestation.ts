// Part 3, 18: attestation.
import {
  Certify,
  CertifyCreation,
  GetCommandAuditDigest,
  GetRandom,
  GetSessionAuditDigest,
  GetTime,
  Quote,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_ST, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { none } from '../../support/frames.js';
import type { Plan, StepMaker, WeightedPlan } from '../generator.js';
import { Entity } from '../model.js';
import { handleOf, outputOf } from '../symbols.js';
import { signingKey, sigScheme } from './asymmetric.js';

/** Key, scheme and qualifying data of an attestation; NULL and no scheme in one of six cases. */
export function signer(g: StepMaker): { signHandle: Entity; inScheme: unknown; qualifyingData: Buffer } {
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
  const { choose } = g;
  const objectHandle = g.object(({ creation }) => creation !== undefined);
  const { creation } = objectHandle;
  const isFalse = creation === undefined || choose.once(12);
  const creationHash = isFalse ? choose.bytes(32) : outputOf(creation, 'creationHash');
  const creationTicket =
    creation === undefined || choose.once(20)
      ? { tag: TPM_ST.CREATION, hierarchy: TPM_RH.OWNER, digest: choose.bytes(64) }
      : outputOf(creation, 'creationTicket');
  yield g.command(CertifyCreation, { objectHandle, ...signer(g), creationHash, creationTicket });
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
  const sessions = model.sessions.filter(({ saved, isPolicy }) => saved === undefined && (!isPolicy || choose.once(12)));
  if (sessions.length === 0 && !choose.once(8)) return;
  const session = sessions.length === 0 ? undefined : choose.of(...sessions);
  if (session !== undefined && !choose.once(6)) {
    const use = { session: session.symbol, auth: none, attributes: TPMA_SESSION.continueSession | TPMA_SESSION.audit };
    yield { ...g.command(GetRandom, { bytesRequested: 8 }, { exact: true, plain: true }), uses: [use] };
  }
  const sessionHandle = session === undefined ? 0x02000000 : handleOf(session.symbol);
  yield g.command(GetSessionAuditDigest, { privacyAdminHandle: model.endorsement, ...signer(g), sessionHandle });
}

function* time(g: StepMaker): Plan {
  yield g.command(GetTime, { privacyAdminHandle: g.model.endorsement, ...signer(g) });
}

export const attestationPlans: readonly WeightedPlan[] = [
  [5, certify],
  [4, certifyCreation],
  [5, quote],
  [5, auditDigest],
  [3, time],
];
