// Serves backups and the audit log.
import { badRequest } from './bad-request.js';
import type { ApiHandlers } from './handler.js';

export const backupHandlers = {
  exportGuest: ({ backups }, { params }) => backups.export(params.name),
  repairGuest: ({ backups }, { params, body }) => backups.repair(params.name, body.apply),
  importGuest: async ({ backups }, { body: { backup, replace = false, recovered } }) => {
    const keys = recovered && {
      stateKey: secretOf(recovered.stateKey, 'recovered.stateKey'),
      recoveryKey: secretOf(recovered.recoveryKey, 'recovered.recoveryKey'),
    };
    try {
      const { guest, lost } = await backups.import({ backup, replace, recovered: keys });
      return { guest: guest.view(), lost };
    } finally {
      keys?.stateKey.fill(0);
    }
  },
  audit: async ({ audit }, { query: { guest } }) => {
    const { entries, head, problems } = await audit.read();
    return { entries: guest === undefined ? entries : entries.filter((entry) => entry.guest === guest), head, problems };
  },
} satisfies Partial<ApiHandlers>;

const SECRET_SIZE = 32;

function secretOf(base64: string, where: string): Buffer {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length !== SECRET_SIZE) throw badRequest(`${where}: expected ${SECRET_SIZE.toString()} bytes`);
  return bytes;
}
