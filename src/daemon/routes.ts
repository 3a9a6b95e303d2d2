// The control API's resources.
import * as v from 'valibot';
import { EXIT, Failure } from '../failure.js';
import type { ChipView } from './chip-view.js';
import type { GuestRegistry } from './guest-registry.js';

/** What the API shows and changes. */
export interface ApiSubject {
  readonly guests: GuestRegistry;
  readonly chip: ChipView;
  readonly stateDir: string;
  readonly runDir: string;
  readonly started: Date;
}

/** A request that has matched a route. */
export interface ApiRequest {
  /** The guest's name, in routes that have one. */
  readonly name: string;
  readonly query: URLSearchParams;
  /** The body as JSON; undefined if there is none. */
  readonly body: unknown;
}

/** One method of one resource. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Path with `:name` where the guest's name stands. */
  readonly path: string;
  readonly status?: number;
  readonly run: (subject: ApiSubject, request: ApiRequest) => unknown;
}

const newGuest = v.strictObject({
  name: v.string(),
  policy: v.optional(v.string()),
  start: v.optional(v.boolean()),
  tcp: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65534))),
});

/** All resources below /v1. */
export const ROUTES: readonly Route[] = [
  { method: 'GET', path: '/v1/status', run: status },
  { method: 'GET', path: '/v1/doctor', run: ({ chip }) => ({ checks: chip.check() }) },
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
  { method: 'GET', path: '/v1/guests/:name/pcrs', run: pcrs },
  {
    method: 'GET',
    path: '/v1/guests/:name/counters',
    run: ({ guests }, { name }) => ({ guest: name, commands: guests.get(name).opened().counters() }),
  },
];

function status({ guests, chip, stateDir, runDir, started }: ApiSubject): unknown {
  const { manufacturer, vendor, firmware, specification } = chip.info;
  const views = guests.list().map((guest) => guest.view());
  return {
    pid: process.pid,
    started: started.toISOString(),
    stateDir,
    runDir,
    tpm: { tcti: chip.tcti, embedded: chip.embedded, manufacturer, vendor, firmware, specification, pendingJobs: chip.pending() },
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
  const guest = await guests.create(result.output);
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

/** A request that the API cannot take. */
export function badRequest(why: string): Failure {
  return new Failure({
    code: 'bad_request',
    what: 'request to the daemon',
    why,
    hint: 'use a tpmux command of the same version',
    exit: EXIT.usage,
  });
}
