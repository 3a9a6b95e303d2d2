// A provider with state: it extends the hash of how many extends there were, and refuses PCR 15.
import { createHash } from 'node:crypto';

const names = { 4: 'sha1', 11: 'sha256', 12: 'sha384', 13: 'sha512' };

export default {
  apiVersion: 1,
  create({ options }, state) {
    let count = state === undefined ? (options?.first ?? 0) : Buffer.from(state).readUInt32BE();
    return {
      extend({ index, digests }) {
        if (index === 15) return 'refused';
        count++;
        return digests.map(({ bank }) => createHash(names[bank]).update(count.toString()).digest());
      },
      save() {
        const bytes = Buffer.alloc(4);
        bytes.writeUInt32BE(count);
        return bytes;
      },
    };
  },
};
