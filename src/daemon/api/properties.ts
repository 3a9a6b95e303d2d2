// Serves property statements and measurement logs.
import { EXIT, Failure } from '../../failure.js';
import { hashName } from '../../tpm/hash.js';
import { exportLog, tcgLog } from '../../properties/measurement-log/export.js';
import { PropertyError } from '../../statements/property-error.js';
import type { StatementView } from '../../statements/catalog.js';
import { parseDigest } from '../../statements/digest-text.js';
import type { Answer } from '../../api/endpoint.js';
import type { Api } from '../../api/endpoints.js';
import type { ApiHandler, ApiHandlers } from './handler.js';

type Summary = Answer<Api['listStatements']>['statements'][number];

function summary({ statement, verdict }: StatementView): Summary {
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

const addStatements: ApiHandler<'addStatements'> = async ({ properties }, { body: { envelopes } }) => {
  const added: string[] = [];
  for (const [at, envelope] of envelopes.entries()) {
    const which = envelopes.length === 1 ? 'the statement' : `statement ${(at + 1).toString()} of ${envelopes.length.toString()}`;
    added.push((await refusing(`adding ${which}`, properties.catalog.add(envelope))).id);
  }
  return { added };
};

const showStatement: ApiHandler<'showStatement'> = ({ properties }, { params: { id } }) => {
  const found = properties.catalog.get(id);
  if (found === undefined) throw noStatement(id);
  return { ...summary(found), subjects: found.statement.subjects, envelope: JSON.parse(found.envelope) as unknown };
};

const removeStatement: ApiHandler<'removeStatement'> = async ({ properties }, { params: { id } }) => {
  if (!(await properties.catalog.remove(id))) throw noStatement(id);
  return { removed: id };
};

const addRevocations: ApiHandler<'addRevocations'> = async ({ properties }, { body: { envelope } }) => {
  const { issuer, number, revoked } = await refusing('taking the revocation list', properties.catalog.revoke(envelope));
  return { issuer, number, revoked: revoked.length };
};

const showRevocations: ApiHandler<'showRevocations'> = ({ properties }, { params: { issuer } }) => {
  const found = properties.catalog.revocationList(issuer);
  return found === undefined ? { list: null, envelope: null } : { list: found.list, envelope: JSON.parse(found.envelope) as unknown };
};

const explainDigest: ApiHandler<'explainDigest'> = ({ properties }, { query }) => {
  const { bank, digest } = parseDigest(query.digest);
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
};

const readLog: ApiHandler<'readLog'> = ({ guests, properties }, { params: { name }, query: { tcg: provider } }) => {
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
  if (provider === undefined) return { guest: name, log: exportLog(kept) };
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
};

export const propertyHandlers = {
  listStatements: async ({ properties }) => ({ statements: (await properties.catalog.list()).map(summary) }),
  addStatements,
  showStatement,
  removeStatement,
  addRevocations,
  showRevocations,
  explainDigest,
  readLog,
} satisfies Partial<ApiHandlers>;

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

function noStatement(id: string): Failure {
  return new Failure({
    code: 'statement_not_found',
    what: `property statement ${id}`,
    why: 'there is no such statement',
    hint: "'tpmux property list' shows all statements",
    exit: EXIT.failed,
  });
}
