// The control API's resources.
import * as v from 'valibot';
import { EXIT, Failure } from '../../failure.js';
import { guestListen } from '../../store/guest-meta.js';
import { BACKUP_ROUTES } from './backup-routes.js';
import { badRequest } from './bad-request.js';
import { PCR_BANKS } from '../../config/config.js';
import { EVIDENCE_ROUTES } from './evidence-routes.js';
import { pcrLogView } from '../../guests/pcr-log-view.js';
import { POLICY_ROUTES } from './policy-routes.js';
import { PROPERTY_ROUTES } from './property-routes.js';
import type { ApiRequest, ApiSubject, Route } from './route.js';
import { pcrChoice } from '../../host/seal-to.js';

const newGuest = v.strictObject({
  name: v.string(),
  policy: v.optional(v.string()),
  start: v.optional(v.boolean()),
  /** X25519 public key in PEM. */
  recoveryKey: v.optional(v.string()),
  ...guestListen.entries,
});

/** All resources below /v1. */
export const ROUTES: readonly Route[] = [
  { method: 'GET', path: '/v1/status', run: status },
  ...BACKUP_ROUTES,
  { method: 'GET', path: '/v1/doctor', run: ({ chip }) => ({ checks: chip.check() }) },
  { method: 'POST', path: '/v1/host/reseal', run: reseal },
  { method: 'POST', path: '/v1/host/policy-digest', run: policyDigest },
  { method: 'GET', path: '/v1/guests', run: ({ guests }) => ({ guests: guests.list().map((guest) => guest.view()) }) },
  { method: 'POST', path: '/v1/guests', status: 201, run: create },
  { method: 'GET', path: '/v1/guests/:name', run: ({ guests }, { name }) => guests.get(name).view() },
  {
    method: 'DELETE',
    path: '/v1/guests/:name',
    run: async ({ guests }, { name }) => {
      await guests.remove(name);
      return { removed: name };
    },
  },
  ...(['start', 'stop', 'reset'] as const).map((action): Route => ({
    method: 'POST',
    path: `/v1/guests/:name/${action}`,
    run: async ({ guests }, { name }) => {
      const guest = guests.get(name);
      await guest[action]();
      return guest.view();
    },
  })),
  {
    method: 'POST',
    path: '/v1/guests/:name/device',
    run: async ({ guests }, { name }) => {
      const guest = guests.get(name);
      await guest.attachDevice();
      return guest.view();
    },
  },
  {
    method: 'DELETE',
    path: '/v1/guests/:name/device',
    run: async ({ guests }, { name }) => {
      const guest = guests.get(name);
      await guest.detachDevice();
      return guest.view();
    },
  },
  ...POLICY_ROUTES,
  ...PROPERTY_ROUTES,
  ...EVIDENCE_ROUTES,
  { method: 'GET', path: '/v1/guests/:name/pcrs', run: pcrs },
  { method: 'GET', path: '/v1/guests/:name/pcr-log', run: ({ guests }, { name }) => pcrLogView(name, guests.get(name).opened().pcrLog()) },
  {
    method: 'GET',
    path: '/v1/guests/:name/counters',
    run: ({ guests }, { name }) => ({ guest: name, commands: guests.get(name).opened().counters() }),
  },
];

async function status({ guests, chip, properties, storeFailure, stateDir, runDir, started }: ApiSubject): Promise<unknown> {
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
}

async function create({ guests }: ApiSubject, { body }: ApiRequest): Promise<unknown> {
  const result = v.safeParse(newGuest, body);
  if (!result.success) {
    const [issue] = result.issues;
    throw badRequest(`${v.getDotPath(issue) ?? 'the body'}: ${issue.message}`);
  }
  const { name, policy, start, recoveryKey, ...listen } = result.output;
  const guest = await guests.create({ name, policy, start, recoveryKey, listen });
  return guest.view();
}

function pcrs({ guests }: ApiSubject, { name, query }: ApiRequest): unknown {
  const banks = guests.get(name).opened().pcrs();
  const wanted = query.get('bank');
  if (wanted !== null && !banks.some(({ bank }) => bank === wanted)) {
    const known = banks.map(({ bank }) => bank).join(', ');
    throw new Failure({
      code: 'no_bank',
      what: `PCR bank ${wanted}`,
      why: `guest ${name} has no such bank`,
      hint: `it has: ${known}`,
      exit: EXIT.usage,
    });
  }
  const shown = wanted === null ? banks : banks.filter(({ bank }) => bank === wanted);
  return { guest: name, banks: Object.fromEntries(shown.map(({ bank, values }) => [bank, values.map((value) => value.toString('hex'))])) };
}

const policyRequest = v.strictObject({
  bank: v.picklist(PCR_BANKS),
  pcrs: v.pipe(v.array(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23))), v.minLength(1)),
  /** Values by index, hexadecimal. */
  values: v.optional(v.record(v.pipe(v.string(), v.regex(/^\d{1,2}$/)), v.pipe(v.string(), v.hexadecimal()))),
});

async function reseal({ audit, guests }: ApiSubject): Promise<unknown> {
  const names = guests.list().map(({ meta }) => meta.name);
  await audit.note({ event: 'host-resealed', detail: `guests: ${names.join(', ') || 'none'}` });
  return guests.reseal();
}

async function policyDigest({ chip }: ApiSubject, { body }: ApiRequest): Promise<unknown> {
  const result = v.safeParse(policyRequest, body);
  if (!result.success) {
    const [issue] = result.issues;
    throw badRequest(`${v.getDotPath(issue) ?? 'the body'}: ${issue.message}`);
  }
  const { bank, pcrs: indices, values = {} } = result.output;
  const choice = pcrChoice(bank, indices);
  const future = new Map(Object.entries(values).map(([index, value]) => [Number(index), Buffer.from(value, 'hex')] as const));
  return { bank, pcrs: choice.pcrs, ...(await chip.host.policyDigest(choice, future)) };
}
