// The control API's resources for property statements and measurement logs.
import * as v from 'valibot';
import { EXIT, Failure } from '../../failure.js';
import { hashName } from '../../tpm/hash.js';
import { exportLog, tcgLog } from '../../properties/measurement-log/export.js';
import { PropertyError } from '../../statements/property-error.js';
import type { StatementView } from '../../statements/catalog.js';
import { parseDigest } from '../../statements/digest-text.js';
import type { ApiRequest, ApiSubject, Route } from './route.js';

const newStatements = v.strictObject({ envelopes: v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(1000)) });
const newRevocations = v.strictObject({ envelope: v.string() });

/** All resources below /v1/properties, and a guest's log. */
export const PROPERTY_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/properties/statements',
    run: async ({ properties }) => ({ statements: (await properties.catalog.list()).map(summary) }),
  },
  { method: 'POST', path: '/v1/properties/statements', status: 201, run: add },
  { method: 'GET', path: '/v1/properties/statements/:name', run: show },
  {
    method: 'DELETE',
    path: '/v1/properties/statements/:name',
    run: async ({ properties }, { name }) => {
      if (!(await properties.catalog.remove(name))) throw noStatement(name);
      return { removed: name };
    },
  },
  { method: 'POST', path: '/v1/properties/revocations', status: 201, run: revoke },
  { method: 'GET', path: '/v1/properties/revocations/:name', run: revocations },
  { method: 'GET', path: '/v1/properties/explain', run: explain },
  { method: 'GET', path: '/v1/guests/:name/log', run: log },
];

function summary({ statement, verdict }: StatementView): unknown {
  const { id, issuer, subjects, properties, notBefore, notAfter } = statement;
  return {
    id,
    issuer,
    subjects: subjects.length,
    properties,
    notBefore: new Date(notBefore).toISOString(),
    notAfter: new Date(notAfter).toISOString(),
    inForce: verdict === undefined,
    code: verdict?.code ?? null,
    why: verdict?.why ?? null,
  };
}

async function add({ properties }: ApiSubject, { body }: ApiRequest): Promise<unknown> {
  const { envelopes } = checked(newStatements, body);
  const added: string[] = [];
  for (const [at, envelope] of envelopes.entries()) {
    const which = envelopes.length === 1 ? 'the statement' : `statement ${(at + 1).toString()} of ${envelopes.length.toString()}`;
    added.push((await refusing(`adding ${which}`, properties.catalog.add(envelope))).id);
  }
  return { added };
}

function show({ properties }: ApiSubject, { name }: ApiRequest): unknown {
  const found = properties.catalog.get(name);
  if (found === undefined) throw noStatement(name);
  return { ...(summary(found) as object), subjects: found.statement.subjects, envelope: JSON.parse(found.envelope) as unknown };
}

async function revoke({ properties }: ApiSubject, { body }: ApiRequest): Promise<unknown> {
  const { envelope } = checked(newRevocations, body);
  const { issuer, number, revoked } = await refusing('taking the revocation list', properties.catalog.revoke(envelope));
  return { issuer, number, revoked: revoked.length };
}

function revocations({ properties }: ApiSubject, { name }: ApiRequest): unknown {
  const found = properties.catalog.revocationList(name);
  return found === undefined ? { list: null, envelope: null } : { list: found.list, envelope: JSON.parse(found.envelope) as unknown };
}

function explain({ properties }: ApiSubject, { query }: ApiRequest): unknown {
  const { bank, digest } = parseDigest(query.get('digest') ?? '');
  const snapshot = properties.catalog.snapshot();
  const set = snapshot.lookup(bank, digest);
  return {
    bank: hashName(bank),
    digest: digest.toString('hex'),
    known: set !== undefined,
    properties: set?.properties ?? [],
    extended: set?.digest(bank).toString('hex') ?? null,
    statements: snapshot.explain(bank, digest).map(({ kept, verdict }) => summary({ ...kept, verdict })),
  };
}

function log({ guests, properties }: ApiSubject, { name, query }: ApiRequest): unknown {
  const guest = guests.get(name);
  guest.opened();
  const kept = properties.ofGuest(guest.meta.id)?.log;
  if (kept === undefined) {
    throw new Failure({
      code: 'no_log',
      what: `measurement log of guest ${name}`,
      why: "it has no provider 'log'",
      hint: "add 'log' to the guest's providers",
      exit: EXIT.unsupported,
    });
  }
  const provider = query.get('tcg');
  if (provider === null) return { guest: name, log: exportLog(kept) };
  const bytes = tcgLog(kept, provider);
  if (bytes === undefined) {
    throw new Failure({
      code: 'log_incomplete',
      what: `measurement log of guest ${name} for provider ${provider}`,
      why: kept.truncated ? 'older entries were dropped, so it does not replay' : 'there is no such provider, or its log is incomplete',
      hint: 'the log as JSON tells what is missing',
      exit: EXIT.failed,
    });
  }
  return { guest: name, provider, tcg: bytes.toString('base64') };
}

/** What a {@link PropertyError} is to a user. */
async function refusing<T>(what: string, done: Promise<T>): Promise<T> {
  try {
    return await done;
  } catch (error) {
    if (!(error instanceof PropertyError)) throw error;
    const exit = error.code === 'malformed' || error.code === 'unsupported_key' ? EXIT.usage : EXIT.refused;
    const hint =
      error.code === 'untrusted_key' || error.code === 'property_not_allowed'
        ? 'trusted issuers are in properties.trust of the configuration'
        : '';
    throw new Failure({ code: error.code, what, why: error.message, hint, exit }, { cause: error });
  }
}

function checked<S extends v.GenericSchema>(schema: S, body: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, body);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new Failure({
    code: 'bad_request',
    what: 'request to the daemon',
    why: `${v.getDotPath(issue) ?? 'the body'}: ${issue.message}`,
    hint: 'use a tpmux command of the same version',
    exit: EXIT.usage,
  });
}

function noStatement(id: string): Failure {
  return new Failure({
    code: 'statement_not_found',
    what: `property statement ${id}`,
    why: 'there is no such statement',
    hint: "'tpmux property list' shows all statements",
    exit: EXIT.failed,
  });
}
