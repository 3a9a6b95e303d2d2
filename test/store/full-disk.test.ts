import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openHostStore } from '../support/host-store.js';
import { StoreError } from '../../src/store/store-error.js';

const GUEST = '44444444-4444-4444-8444-444444444444';

describe('a full disk', function () {
  let mount: string;
  let mounted = false;
  before(async function () {
    mount = await mkdtemp(join(tmpdir(), 'tpmux-full-'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tpmux-test', mount], { stdio: 'ignore' });
      mounted = true;
    } catch {
      // Mounting needs root.
      this.skip();
    }
  });
  after(async () => {
    if (mounted) execFileSync('umount', ['-l', mount]);
    await rmdir(mount);
  });

  it('is an error of the write that meets it; what was committed before is there, and room heals', async () => {
    const ballast = join(mount, 'ballast');
    await writeFile(ballast, randomBytes(9_000_000));
    const path = join(mount, 'store');
    const health: (string | undefined)[] = [];
    const store = await openHostStore(path, (failure) => health.push(failure));
    const created = new Date().toISOString();
    await store.addGuest({ id: GUEST, name: 'g', created, policy: null, listen: {}, autostart: true }, Buffer.from('key blobs'));
    const key = randomBytes(32);
    const records = store.guestRecords(GUEST, key);
    let committed = 0;
    const fill = async (): Promise<void> => {
      for (; committed < 400; committed++) {
        await records.commit(new Map([[`nv/${committed.toString().padStart(3, '0')}`, randomBytes(20_000)]]));
      }
    };
    await assert.rejects(fill(), (error: unknown) => {
      assert.ok(error instanceof StoreError);
      assert.match(error.message, /writing the state of guest .* : the disk is full \(check the disk/);
      return true;
    });
    assert.ok(committed > 5);
    assert.equal((await records.load('nv/')).length, committed);
    await assert.rejects(store.putHostRecords(new Map([['big', randomBytes(50_000)]])), /writing the store : the disk is full/);
    assert.equal(store.failure, 'the disk is full');
    await rm(ballast);
    await records.commit(new Map([['nv/after', randomBytes(10_000)]]));
    assert.deepEqual(health, ['the disk is full', undefined]);
    await store.close();
    const reopened = await openHostStore(path);
    assert.equal((await reopened.guestRecords(GUEST, key).load('nv/')).length, committed + 1);
    await reopened.close();
  });

  it('does not keep a store from being opened and read', async () => {
    const path = join(mount, 'store');
    const ballast = join(mount, 'ballast');
    await assert.rejects(writeFile(ballast, randomBytes(12_000_000)), /ENOSPC/);
    const store = await openHostStore(path);
    assert.equal(store.guests().length, 1);
    await assert.rejects(store.putHostRecords(new Map([['big', randomBytes(50_000)]])), /the disk is full/);
    await rm(ballast);
    await store.putHostRecords(new Map([['big', randomBytes(50_000)]]));
    await store.close();
  });
});
