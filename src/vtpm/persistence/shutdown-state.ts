// TPM 2.0 Library Part 3, 9.4: what TPM2_Shutdown(STATE) saves, and when that is void.
import { encode } from '../../tpm/schema.js';
import { savedState, type SavedState } from '../state/power.js';
import type { Tpm } from '../tpm.js';

/** What Shutdown(STATE) keeps for the next startup, as it is now. */
export function shutdownState(tpm: Tpm): SavedState {
  const { hierarchies, clock, pcrs, sessions, objects, power } = tpm;
  return {
    hierarchies: hierarchies.save(),
    counters: { restartCount: clock.restartCount, clearCount: clock.clearCount },
    pcrs: pcrs.save(),
    pcrUpdateCounter: pcrs.updateCounter,
    pcrGroupAuth: pcrs.groupAuth,
    commandAuditDigest: tpm.commandAudit.digest,
    commits: tpm.commits.save(),
    startupLocality: power.startupLocality,
    contextCounter: sessions.contextCounter,
    objectContexts: objects.contexts,
    sessions: sessions.saveTable(),
  };
}

/** An orderly end of a power cycle, after which `saved` is there for the next one. */
export function shutDown(tpm: Tpm, saved: SavedState | null): void {
  tpm.dictionaryAttack.shutdown();
  tpm.nv.storeOrderly();
  tpm.clock.changed();
  tpm.power.shutdown(saved);
}

/**
 * To be called after every command: if something has changed that Shutdown(STATE) had saved, what it saved is void. Otherwise the next startup
 * would go back to before it: an ephemeral key that was used since would be there to be used again. The audit digest may be older, as in the
 * specification's reference code; of PCRs who changes them knows whether they are saved.
 */
export function voidOldShutdown(tpm: Tpm): void {
  const { saved, started } = tpm.power;
  if (saved === null || !started) return;
  const { commandAuditDigest, pcrs, pcrUpdateCounter } = saved;
  const now = encode(savedState, { ...shutdownState(tpm), commandAuditDigest, pcrs, pcrUpdateCounter });
  if (!now.equals(encode(savedState, saved))) tpm.power.disorder();
}
