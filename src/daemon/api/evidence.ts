// Serves evidence about a guest.
import { buildEvidence, type KnownProperties } from '../../attestation/build-evidence.js';
import { EXIT, Failure } from '../../failure.js';
import type { Catalog } from '../../statements/catalog.js';
import { CertifiedProvider } from '../../properties/providers/certified.js';
import type { ProviderSet } from '../../properties/provider-set/provider-set.js';
import { exportLog } from '../../properties/measurement-log/export.js';
import type { ApiHandler, ApiHandlers } from './handler.js';

/** Evidence for a quote of the guest: TPM2_Quote's, or with `provider` that of one provider's vector. The guest's policy says what it shows. */
const readEvidence: ApiHandler<'readEvidence'> = ({ guests, properties }, { params: { name }, query: { provider: wanted } }) => {
  const guest = guests.get(name);
  const policy = guest.opened().policy();
  const providers = properties.ofGuest(guest.meta.id);
  const log = providers?.log;
  if (providers === undefined || log === undefined) {
    throw refused(name, "it has no provider 'log'", "add 'log' to the guest's providers", EXIT.unsupported);
  }
  if (wanted !== undefined && !providers.names.includes(wanted)) {
    throw refused(name, `it has no provider '${wanted}'`, `its providers are ${providers.names.join(', ')}`, EXIT.usage);
  }
  const built = buildEvidence({
    log: exportLog(log),
    vector: (index) => wanted ?? providers.attested(index),
    known: knownTo(providers, properties.catalog),
    revealed: { property: (property) => policy.reveals(property), digests: policy.reveal.digests === 'reveal' },
  });
  return { guest: name, ...built };
};

export const evidenceHandlers = { readEvidence } satisfies Partial<ApiHandlers>;

/** What the guest goes by: the statements that were in force when it was reset, if it has `certified`. */
function knownTo(providers: ProviderSet, catalog: Catalog): KnownProperties {
  const envelope = (id: string): string | undefined => catalog.get(id)?.envelope;
  const certified = providers.provider('certified');
  if (certified instanceof CertifiedProvider) {
    return {
      set: (bank, digest) => certified.properties(bank, digest),
      statements: (bank, digest) => certified.statements(bank, digest),
      envelope,
    };
  }
  const snapshot = catalog.snapshot();
  return {
    set: (bank, digest) => snapshot.lookup(bank, digest),
    statements: (bank, digest) => snapshot.inForce(bank, digest),
    envelope,
  };
}

function refused(name: string, why: string, hint: string, exit: Failure['exit']): Failure {
  return new Failure({ code: 'no_evidence', what: `evidence about guest ${name}`, why, hint, exit });
}
