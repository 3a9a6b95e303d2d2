// The documents about the control API, from its endpoints: a manual page and an OpenAPI document.
import { toJsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import type { EndpointSpec, TextFields } from '../src/api/endpoint.js';
import { API } from '../src/api/endpoints.js';
import { API_ERRORS, COMMON_ERRORS, statusOf, type ApiErrorCode } from '../src/api/errors.js';

const ENDPOINTS: readonly (readonly [name: string, spec: EndpointSpec])[] = Object.entries(API);

interface JsonSchema {
  readonly type?: unknown;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly const?: string | number | boolean;
  readonly additionalProperties?: JsonSchema | boolean;
}

function jsonSchema(schema: v.GenericSchema): JsonSchema {
  // Inputs: what is written on the wire. Where JSON Schema has no word for a check, the rest of the schema stands.
  const { $schema: _, ...rest } = toJsonSchema(schema, { typeMode: 'input', errorMode: 'ignore' }) as JsonSchema & { $schema?: string };
  return rest;
}

function errorsOf({ errors = [] }: EndpointSpec): readonly ApiErrorCode[] {
  return [...errors, ...COMMON_ERRORS];
}

const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'what', 'why', 'hint', 'exit'],
      properties: {
        code: { type: 'string', description: 'for programs; more codes may come' },
        what: { type: 'string', description: 'what was wanted' },
        why: { type: 'string' },
        hint: { type: 'string', description: 'what to do; empty if nothing' },
        exit: { type: 'integer', description: 'exit code of the command line' },
      },
    },
  },
};

function parametersOf(place: 'path' | 'query', fields: TextFields = {}): object[] {
  return Object.entries(fields).map(([name, schema]) => {
    const { description, ...rest } = jsonSchema(schema);
    const required = place === 'path' || schema.type !== 'optional';
    return { name, in: place, required, ...(description === undefined ? {} : { description }), schema: rest };
  });
}

function responsesOf(spec: EndpointSpec): object {
  const json = (schema: object): object => ({ 'application/json': { schema } });
  const byStatus = new Map<number, ApiErrorCode[]>();
  for (const code of errorsOf(spec)) {
    const status = statusOf({ code, ...API_ERRORS[code] });
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const errors = [...byStatus].sort(([a], [b]) => a - b);
  return {
    [spec.status ?? 200]: { description: 'success', content: json(jsonSchema(spec.answer)) },
    ...Object.fromEntries(
      errors.map(([status, codes]) => [
        status,
        {
          description: codes.map((code) => `\`${code}\`: ${API_ERRORS[code].meaning}`).join('; '),
          content: json({ $ref: '#/components/schemas/Error' }),
        },
      ]),
    ),
  };
}

/** The OpenAPI document, version 3.1. */
export function openApi(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const [operationId, spec] of ENDPOINTS) {
    const { method, path, summary, description, params, query, body } = spec;
    (paths[path] ??= {})[method.toLowerCase()] = {
      operationId,
      summary,
      ...(description === undefined ? {} : { description }),
      parameters: [...parametersOf('path', params), ...parametersOf('query', query)],
      ...(body === undefined
        ? {}
        : { requestBody: { required: body.type !== 'optional', content: { 'application/json': { schema: jsonSchema(body) } } } }),
      responses: responsesOf(spec),
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'tpmux control API',
      version: '1',
      description:
        'HTTP with JSON on the UNIX socket `control.sock` in the run directory of a daemon. For root and the user that the daemon runs as.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://localhost' }],
    paths,
    components: { schemas: { Error: errorSchema } },
  };
}

const INTRODUCTION = `# Control API

HTTP with JSON on the UNIX socket \`control.sock\` in the run directory of a daemon (\`/run/tpmux\` unless configured otherwise). It is for root, and for the
user that the daemon runs as. The command line is a client of it. [openapi.json](openapi.json) says the same for programs (OpenAPI 3.1). Both are made
from the declarations in \`src/api\` by \`npm run docs:api\`.

    curl --unix-socket /run/tpmux/control.sock http://localhost/v1/status

An error is \`{"error": {"code", "what", "why", "hint", "exit"}}\`: \`code\` is for programs, \`what\`, \`why\` and \`hint\` are for people, and \`exit\` is the
exit code that the command line ends with. Members of a body that an endpoint does not know are refused. Answers may get more members.

\`GET /metrics\` gives metrics as text, in the format of Prometheus ([operations.md](operations.md)).
`;

/** The manual page. */
export function apiReference(): string {
  return [INTRODUCTION, '## Endpoints\n', ...ENDPOINTS.map(([, spec]) => section(spec)), errorTable()].join('\n');
}

function section(spec: EndpointSpec): string {
  const { method, path, summary, description, params, query, body, answer, status = 200 } = spec;
  const parts = [`### ${method} ${path}\n`, `${summary}.${description === undefined ? '' : ` ${description}`}\n`, `    ${curl(spec)}\n`];
  const given = [
    ...fieldRows('path', params),
    ...fieldRows('query', query),
    ...(body === undefined ? [] : objectRows('body', jsonSchema(body), '')),
  ];
  if (given.length > 0) parts.push(table(['parameter', 'in', 'type', ''], given));
  parts.push(
    `Answer (${status.toString()}):\n`,
    table(
      ['member', 'type', ''],
      objectRows('', jsonSchema(answer), '').map(([name, , ...rest]) => [name ?? '', ...rest]),
    ),
  );
  parts.push(
    `Errors: ${errorsOf(spec)
      .map((code) => `\`${code}\``)
      .join(', ')}.\n`,
  );
  return parts.join('\n');
}

function curl({ method, path, query = {}, body }: EndpointSpec): string {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => EXAMPLES[name] ?? name);
  const asked = Object.entries(query).filter(([, { type }]) => type !== 'optional');
  const search = asked.length === 0 ? '' : `?${asked.map(([name]) => `${name}=${EXAMPLES[name] ?? '…'}`).join('&')}`;
  const how = method === 'GET' ? '' : ` -X ${method}`;
  const required = body === undefined ? [] : (jsonSchema(body).required ?? []);
  const content = required.length === 0 ? '' : ` --json '{${required.map((name) => `"${name}": …`).join(', ')}}'`;
  return `curl --unix-socket /run/tpmux/control.sock${how}${content} 'http://localhost${filled}${search}'`;
}

const EXAMPLES: Readonly<Record<string, string>> = { name: 'web1', issuer: 'build%40example.org', digest: 'sha256:9f86…', id: '3f1c…' };

function fieldRows(place: string, fields: TextFields = {}): string[][] {
  return Object.entries(fields).map(([name, schema]) => {
    const { description = '' } = jsonSchema(schema);
    return [`\`${name}\``, place, schema.type === 'optional' ? 'text, optional' : 'text', description];
  });
}

/** One row for each member, members of members with a dot. */
function objectRows(place: string, schema: JsonSchema, prefix: string): string[][] {
  if (schema.anyOf !== undefined && schema.anyOf.every(({ properties }) => properties !== undefined)) {
    return schema.anyOf.flatMap((each, at) => [...(at === 0 ? [] : [['*or*', place, '', '']]), ...objectRows(place, each, prefix)]);
  }
  return Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    const optional = schema.required?.includes(name) === true ? '' : ', optional';
    const own = [`\`${prefix}${name}\``, place, typeName(member) + optional, member.description ?? ''];
    const [inner, suffix] = innerOf(member);
    return [own, ...(inner === undefined ? [] : objectRows(place, inner, `${prefix}${name}${suffix}.`))];
  });
}

function innerOf(member: JsonSchema): readonly [inner: JsonSchema | undefined, suffix: string] {
  const [only] = (member.anyOf ?? []).filter(({ type }) => type !== 'null');
  const seen = member.anyOf === undefined ? member : (only ?? member);
  if (seen.items?.properties !== undefined) return [seen.items, '[]'];
  return [seen.properties === undefined ? undefined : seen, ''];
}

function typeName(schema: JsonSchema): string {
  const { type, items, anyOf, additionalProperties } = schema;
  if (schema.enum !== undefined) return schema.enum.map((one) => `\`${String(one)}\``).join(' \\| ');
  if (schema.const !== undefined) return `\`${String(schema.const)}\``;
  if (anyOf !== undefined) return anyOf.map(typeName).join(' \\| ');
  if (type === 'array') return `array of ${items === undefined ? 'anything' : typeName(items)}`;
  if (type === 'object' && typeof additionalProperties === 'object') return `object of ${typeName(additionalProperties)}`;
  return typeof type === 'string' ? type : 'anything';
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line), ''].join('\n');
}

function errorTable(): string {
  const rows = Object.entries(API_ERRORS).map(([code, { exit, meaning, ...rest }]) => [
    `\`${code}\``,
    statusOf({ code, exit, ...rest }).toString(),
    exit.toString(),
    meaning,
  ]);
  const more = 'Reasons for which property statements are refused are codes too: [properties.md](properties.md).\n';
  return ['## Errors\n', table(['code', 'status', 'exit code', ''], rows), more].join('\n');
}
