// Serves the daemon, its host and its chip.
import { pcrChoice } from '../../host/seal-to.js';
import type { ApiHandler, ApiHandlers } from './handler.js';

const status: ApiHandler<'status'> = async ({ guests, chip, properties, storeFailure, stateDir, runDir, started }) => {
  const { state, since, reason } = await chip.currentCondition();
  const { manufacturer, vendor, firmware, specification } = chip.info;
  const views = guests.list().map((guest) => guest.view());
  return {
    pid: process.pid,
    started: started.toISOString(),
    stateDir,
    runDir,
    tpm: {
      tcti: chip.tcti,
      embedded: chip.embedded,
      state,
      since: since.toISOString(),
      reason,
      manufacturer,
      vendor,
      firmware,
      specification,
      pendingJobs: chip.pending(),
    },
    store: { state: storeFailure() === undefined ? 'ok' : 'failing', reason: storeFailure() ?? null },
    rollback: chip.rollback(),
    properties: {
      statements: properties.catalog.size,
      failures: guests.list().flatMap((guest) => guest.providerFailures().map((each) => ({ guest: guest.meta.name, ...each }))),
    },
    guests: {
      total: views.length,
      running: views.filter(({ state }) => state === 'running').length,
      failed: views.filter(({ state }) => state === 'failed').length,
    },
  };
};

const reseal: ApiHandler<'reseal'> = async ({ audit, guests }) => {
  const names = guests.list().map(({ meta }) => meta.name);
  await audit.note({ event: 'host-resealed', detail: `guests: ${names.join(', ') || 'none'}` });
  return guests.reseal();
};

const policyDigest: ApiHandler<'policyDigest'> = async ({ chip }, { body: { bank, pcrs, values = {} } }) => {
  const choice = pcrChoice(bank, pcrs);
  const future = new Map(Object.entries(values).map(([index, value]) => [Number(index), Buffer.from(value, 'hex')] as const));
  return { bank, pcrs: choice.pcrs, ...(await chip.host.policyDigest(choice, future)) };
};

export const hostHandlers = {
  status,
  doctor: ({ chip }) => ({ checks: chip.check() }),
  reseal,
  policyDigest,
} satisfies Partial<ApiHandlers>;
