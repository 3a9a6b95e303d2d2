// A host record that is not what it was is refused by name, with the way out, and never taken for something else.
import assert from 'node:assert/strict';
import { AUDIT_HEAD_RECORD } from '../../src/daemon/open-host.js';
import { storePath } from '../../src/config/paths.js';
import { EXIT } from '../../src/failure.js';
import { REVOCATIONS_RECORD } from '../../src/guests/properties/service.js';
import { checkWithoutDaemon } from '../../src/host/doctor.js';
import { HARDWARE_RECORD } from '../../src/host/hardware-record.js';
import { SECRET_RECORD } from '../../src/host/rollback/open-guard.js';
import { HostStore } from '../../src/store/host-store.js';
import { StoreError } from '../../src/store/store-error.js';
import { RunningDaemon } from '../support/running-daemon.js';

describe('a host record that is damaged', function () {
  this.timeout(60_000);
  let daemon: RunningDaemon;

  /** Gives the record this text (null: none) and resolves with what it was. */
  const replace = async (name: string, text: string | null): Promise<string | null> => {
    const store = await HostStore.open(storePath(daemon.config.stateDir));
    try {
      const before = store.hostRecord(name)?.toString('utf8') ?? null;
      await store.putHostRecords(new Map([[name, text === null ? null : Buffer.from(text, 'utf8')]]));
      return before;
    } finally {
      await store.close();
    }
  };

  const isRefused = (name: string, why: RegExp) => (error: unknown) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.equal(error.record, name);
    assert.equal(error.exit, EXIT.failed);
    assert.match(error.message, why);
    assert.match(error.hint, /restore .* from a backup/);
    return true;
  };

  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
    await daemon.stop();
  });
  after(() => daemon.dispose());

  for (const [name, misshapen] of [
    [AUDIT_HEAD_RECORD, '{"entries": -1, "hash": ""}'],
    [HARDWARE_RECORD, '{"hostRootName": "xyz", "migrationAuthority": {}}'],
    [SECRET_RECORD, '{"public": "AAAA"}'],
    [REVOCATIONS_RECORD, '{"acme": "seven"}'],
  ] as const) {
    it(`is refused: ${name}`, async () => {
      const good = await replace(name, misshapen.slice(0, -1));
      try {
        await assert.rejects(daemon.start(), isRefused(name, new RegExp(`host record '${name}' is damaged: .*JSON`)));
        await replace(name, misshapen);
        await assert.rejects(daemon.start(), isRefused(name, new RegExp(`host record '${name}' is damaged: \\w+: `)));
      } finally {
        await replace(name, good);
      }
      await daemon.start();
      await daemon.stop();
    });
  }

  it('is told of by doctor', async () => {
    const good = await replace(HARDWARE_RECORD, '[]');
    try {
      const checks = await checkWithoutDaemon(daemon.config);
      const store = checks.find((check) => check.name === 'store');
      assert.equal(store?.result, 'fail');
      assert.match(store.detail, /host record 'hardware' is damaged/);
    } finally {
      await replace(HARDWARE_RECORD, good);
    }
  });
});
