// What happened to a guest's PCRs, as the control API shows it.
import type { Answer } from '../api/endpoint.js';
import type { Api } from '../api/endpoints.js';
import { hashName } from '../tpm/hash.js';
import type { PcrLogEntry } from '../vtpm/state/pcr/pcr-log.js';

/** The log of a guest, oldest entry first; times in ISO 8601, digests in hex by bank. */
export function pcrLogView(guest: string, entries: readonly PcrLogEntry[]): Answer<Api['readPcrLog']> {
  return {
    guest,
    entries: entries.map(({ number, time, kind, command, locality, pcr, digests }) => ({
      number,
      time: new Date(time).toISOString(),
      kind,
      command,
      locality,
      pcr,
      digests: Object.fromEntries(digests.map(({ alg, digest }) => [hashName(alg), digest.toString('hex')])),
    })),
  };
}
