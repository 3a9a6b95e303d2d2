// The control API's resources for backups and the audit log.
import * as v from 'valibot';
import { badRequest } from './bad-request.js';
import type { Route } from './route.js';

const bytes = v.pipe(
  v.string(),
  v.base64(),
  v.transform((text) => Buffer.from(text, 'base64')),
);
const secret = v.pipe(bytes, v.length(32));
const importBody = v.strictObject({
  backup: v.string(),
  replace: v.optional(v.boolean()),
  recovered: v.optional(v.strictObject({ stateKey: secret, recoveryKey: secret })),
});
const repairBody = v.strictObject({ apply: v.boolean() });

export const BACKUP_ROUTES: readonly Route[] = [
  { method: 'POST', path: '/v1/guests/:name/export', run: ({ backups }, { name }) => backups.export(name) },
  {
    method: 'POST',
    path: '/v1/guests/:name/repair',
    run: ({ backups }, { name, body }) => backups.repair(name, parsed(repairBody, body).apply),
  },
  {
    method: 'POST',
    path: '/v1/import',
    status: 201,
    run: async ({ backups }, { body }) => {
      const { backup, replace = false, recovered } = parsed(importBody, body);
      try {
        const { guest, lost } = await backups.import({ backup, replace, recovered });
        return { guest: guest.view(), lost };
      } finally {
        recovered?.stateKey.fill(0);
      }
    },
  },
  {
    method: 'GET',
    path: '/v1/audit',
    run: async ({ audit }, { query }) => {
      const { entries, head, problems } = await audit.read();
      const guest = query.get('guest');
      return { entries: guest === null ? entries : entries.filter((entry) => entry.guest === guest), head, problems };
    },
  },
];

function parsed<S extends v.GenericSchema>(schema: S, body: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, body);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw badRequest(`${v.getDotPath(issue) ?? 'the body'}: ${issue.message}`);
}
