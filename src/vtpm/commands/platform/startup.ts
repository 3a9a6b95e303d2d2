// TPM 2.0 Library Part 3, 9: start-up.
import type { Shutdown, Startup } from '../../../tpm/commands/index.js';
import { TPM_SU } from '../../../tpm/constants/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';
import { DRTM_LOCALITY } from '../../state/drtm.js';
import { shutDown, shutdownState } from '../../persistence/shutdown-state.js';
import type { SavedState } from '../../state/power.js';
import type { Tpm } from '../../tpm.js';

/** What a TPM2_Startup is, by the shutdown before it (Part 1, 12.2.3.2). */
type StartupKind = 'reset' | 'restart' | 'resume';

/** Locality of a startup by a static root of trust that is not the BIOS's (PC Client profile). */
const HCRTM_LOCALITY = 3;

/** 9.3 */
const startup: Handler<typeof Startup> = (tpm, { startupType }, call) => {
  const { power } = tpm;
  const { saved } = power;
  if (call.locality !== 0 && call.locality !== HCRTM_LOCALITY) throw call.error(TPM_RC.LOCALITY);
  const { preStartup } = tpm.drtm;
  const locality = preStartup ? DRTM_LOCALITY : call.locality;
  if (startupType === TPM_SU.STATE) {
    if (saved === null || (saved.startupLocality === DRTM_LOCALITY) !== preStartup) throw call.error(TPM_RC.VALUE, 'startupType');
    if (saved.startupLocality !== locality) throw call.error(TPM_RC.LOCALITY);
  }
  const kind = saved === null ? 'reset' : startupType === TPM_SU.STATE ? 'resume' : 'restart';
  tpm.clock.startup(power.orderly);
  tpm.dictionaryAttack.startup(power.orderly, power.daUsed);
  startHierarchies(tpm, kind, saved);
  startPcrs(tpm, kind, saved, call.locality);
  tpm.pcrLog.add({ kind: 'startup', command: `Startup (${kind})`, locality: call.locality, pcr: null, digests: [] });
  startCounters(tpm, kind, saved);
  tpm.commandAudit.digest = saved?.commandAuditDigest ?? Buffer.alloc(0);
  if (saved !== null) tpm.commits.restore(saved.commits);
  if (saved === null) tpm.sessions.clear();
  else tpm.sessions.restoreTable(saved.sessions, saved.contextCounter);
  tpm.objects.flushWhere(() => true);
  tpm.objects.contexts = saved?.objectContexts ?? 0n;
  tpm.nv.startup(kind, power.orderly);
  power.startup(locality);
};

function startHierarchies({ hierarchies }: Tpm, kind: StartupKind, saved: SavedState | null): void {
  if (saved !== null) hierarchies.restore(saved.hierarchies, kind === 'resume');
  if (kind !== 'resume') hierarchies.startupClear(kind === 'reset');
}

function startPcrs({ pcrs, drtm }: Tpm, kind: StartupKind, saved: SavedState | null, locality: number): void {
  if (saved !== null) pcrs.updateCounter = saved.pcrUpdateCounter;
  pcrs.startup(kind, locality, drtm.preStartup, saved?.pcrs);
  if (kind === 'resume' && saved !== null) pcrs.groupAuth = saved.pcrGroupAuth;
}

function startCounters({ clock }: Tpm, kind: StartupKind, saved: SavedState | null): void {
  if (saved === null) {
    clock.clearCount = 0;
    clock.restartCount = 0;
    clock.resetCount = (clock.resetCount + 1) >>> 0;
    clock.totalResetCount = (clock.totalResetCount + 1) >>> 0;
  } else {
    clock.restartCount = (saved.counters.restartCount + 1) >>> 0;
    clock.clearCount = saved.counters.clearCount + (kind === 'restart' ? 1 : 0);
  }
  clock.changed();
}

/** 9.4 */
const shutdown: Handler<typeof Shutdown> = (tpm, { shutdownType }, call) => {
  const keepsState = shutdownType === TPM_SU.STATE;
  if (keepsState && tpm.pcrs.reallocated) throw call.error(TPM_RC.TYPE, 'shutdownType');
  shutDown(tpm, keepsState ? shutdownState(tpm) : null);
};

export const startupHandlers = { Startup: startup, Shutdown: shutdown } satisfies Partial<Handlers>;
