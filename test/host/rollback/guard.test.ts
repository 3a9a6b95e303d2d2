// An older copy of the state is put in place of the newest, and a crash is not mistaken for that.
import assert from 'node:assert/strict';
import { listHandles } from '../../../src/hardware/chip/sender.js';
import { randomUUID } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openRollbackGuard } from '../../../src/host/rollback/open-guard.js';
import { INCREMENTS_PER_DAY, LEASE_RECORD, type RollbackEvent, type RollbackGuard } from '../../../src/host/rollback/guard.js';
import { Failure } from '../../../src/failure.js';
import type { Hardware } from '../../../src/hardware/hardware.js';
import { COUNTER_INDICES, DEFAULT_COUNTER_INDEX } from '../../../src/hardware/host/counter.js';
import type { HostStore } from '../../../src/store/host-store.js';
import { openHostStore, STORE_SECRET } from '../../support/host-store.js';
import { HierarchyChangeAuth, NV_UndefineSpace, NV_ReadPublic } from '../../../src/tpm/commands/index.js';
import { TPM_CC, TPM_RH } from '../../../src/tpm/constants/index.js';
import { Bench, inTurn } from '../../hardware/fixture.js';
import { RunningDaemon } from '../../support/running-daemon.js';
import { waitFor } from '../../support/wait-for.js';

const stateKey = Buffer.alloc(32, 7);
const HOUR = 3_600_000;

class Crash extends Error {}

/** A store with one guest, and a guard on it. */
class Host {
  readonly events: RollbackEvent[] = [];
  readonly lines: string[] = [];
  /** Between increments, in milliseconds. */
  interval = HOUR;
  ownerAuth = Buffer.alloc(0);
  readonly guest = { id: randomUUID(), name: 'web1', created: new Date().toISOString(), policy: null, listen: {}, autostart: false };
  store: HostStore;

  private constructor(
    readonly directory: string,
    store: HostStore,
    private readonly hardware: Hardware,
  ) {
    this.store = store;
  }

  static async create(hardware: Hardware): Promise<Host> {
    const directory = await mkdtemp(join(tmpdir(), 'tpmux-rollback-'));
    const host = new Host(directory, await openHostStore(join(directory, 'store')), hardware);
    await host.store.addGuest(host.guest, Buffer.alloc(1));
    return host;
  }

  /** @param crash throws where the daemon is to die */
  guard(whenRollback: 'refuse' | 'allow' = 'refuse', crash: () => void = () => undefined): Promise<RollbackGuard> {
    const store = Object.create(this.store) as HostStore;
    store.hostRecord = (key) => this.store.hostRecord(key);
    store.guests = () => this.store.guests();
    store.damagedGuests = () => this.store.damagedGuests();
    store.putHostRecords = async (changes) => {
      crash();
      await this.store.putHostRecords(changes);
      crash();
    };
    const write = (line: string, fields: unknown): void => void this.lines.push(`${line} ${JSON.stringify(fields)}`);
    const log = { error: write, warn: write, info: write, debug: write } as never;
    const config = { whenRollback, counterIndex: undefined, counterInterval: this.interval };
    const onDetected = (event: RollbackEvent): void => void this.events.push(event);
    return openRollbackGuard({
      hardware: this.hardware,
      secret: STORE_SECRET,
      ownerAuth: this.ownerAuth,
      store,
      config,
      log,
      onDetected,
    }).then((guard) => guard ?? assert.fail('no guard'));
  }

  /** Opens the guest, commits, and closes it. */
  async work(guard: RollbackGuard, commits = 1): Promise<void> {
    const records = this.store.guestRecords(this.guest.id, stateKey);
    await guard.admit(this.guest.id, this.guest.name, records);
    for (let i = 0; i < commits; i++) await records.commit(new Map([['nv/1', Buffer.from(i.toString())]]));
  }

  async save(name: string): Promise<void> {
    await this.store.close();
    await cp(join(this.directory, 'store'), join(this.directory, name), { recursive: true });
    this.store = await openHostStore(join(this.directory, 'store'));
  }

  async restore(name: string): Promise<void> {
    await this.store.close();
    await rm(join(this.directory, 'store'), { recursive: true });
    await cp(join(this.directory, name), join(this.directory, 'store'), { recursive: true });
    this.store = await openHostStore(join(this.directory, 'store'));
  }

  async dispose(): Promise<void> {
    await this.store.close();
    await rm(this.directory, { recursive: true });
  }
}

const refused =
  (why: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof Failure, String(error));
    assert.deepEqual([error.code, error.exit], ['rollback', 3]);
    assert.match(error.why, why);
    return true;
  };

describe('rollback of the state', function () {
  this.timeout(60_000);
  let bench: Bench;
  let hardware: Hardware;
  let host: Host;
  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
  });
  after(() => bench.stop());
  beforeEach(async () => {
    host = await Host.create(hardware);
    const counter = await findCounter();
    if (counter !== undefined) await undefine(counter);
  });
  afterEach(() => host.dispose());

  const findCounter = (): Promise<number | undefined> =>
    inTurn(hardware, async (turn) => {
      const indices = await listHandles(turn, DEFAULT_COUNTER_INDEX);
      return indices.find((index) => index < DEFAULT_COUNTER_INDEX + COUNTER_INDICES);
    });
  /** As the owner of the chip can. */
  const undefine = (nvIndex: number): Promise<unknown> =>
    inTurn(hardware, async (turn) => {
      const { nvName } = await turn.execute(NV_ReadPublic, { nvIndex });
      const names = [undefined, Buffer.from(nvName)];
      return await turn.execute(NV_UndefineSpace, { authHandle: TPM_RH.OWNER, nvIndex }, { names });
    });

  it('adopts a store that was made before there was a counter, and goes on with it', async () => {
    await host.store.guestRecords(host.guest.id, stateKey).commit(new Map([['nv/1', Buffer.alloc(1)]]));
    for (let start = 0; start < 3; start++) {
      const guard = await host.guard();
      await host.work(guard);
      await guard.close();
    }
    assert.deepEqual(host.events, []);
  });

  it('increments the counter once at the start and once at the end', async () => {
    await (await host.guard()).close();
    const commands = await bench.commandsOf(async () => {
      const guard = await host.guard();
      await host.work(guard, 20);
      await guard.release(host.guest.id);
      await guard.close();
    });
    assert.equal(commands.filter((command) => command === 'NV_Increment').length, 2);
  });

  it('increments it in between, but only if there were commits', async () => {
    host.interval = 40;
    const guard = await host.guard();
    const increments = (): number => bench.relay.codes.filter((code) => code === TPM_CC.NV_Increment).length;
    bench.relay.clear();
    // For what must not happen, time in which it would.
    await sleep(10 * host.interval);
    assert.equal(increments(), 0);
    await host.work(guard);
    await waitFor(() => increments() > 0);
    await sleep(10 * host.interval);
    assert.equal(increments(), 1);
    await guard.close();
  });

  it('needs the owner authorization where one is set, or does without a counter where that is allowed', async () => {
    // With a password, because the HMAC of this response has the new value in it.
    const change = (authValue: Buffer, newAuth: Buffer): Promise<unknown> =>
      inTurn(hardware, (turn) =>
        turn.execute(HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth }, { authorizations: [{ kind: 'password', authValue }] }),
      );
    const secret = Buffer.from('owner');
    await change(Buffer.alloc(0), secret);
    try {
      await assert.rejects(host.guard(), /owner authorization of the TPM is wrong \(configure hardware.owner-auth-file/);
      await assert.rejects(host.guard('allow'), /no guard/);
      assert.ok(host.lines.some((line) => line.startsWith('OLDER COPIES OF THE STATE CANNOT BE TOLD')));
      host.ownerAuth = secret;
      await (await host.guard()).close();
    } finally {
      await change(secret, Buffer.alloc(0));
    }
  });

  it('increments it at most 48 times a day, whatever restarts', async () => {
    const commands = await bench.commandsOf(async () => {
      for (let start = 0; start < INCREMENTS_PER_DAY; start++) await (await host.guard()).close();
    });
    assert.equal(
      commands.filter((command) => command === 'NV_Increment').length,
      INCREMENTS_PER_DAY + 1,
      'and the first one, of its making',
    );
    await (await host.guard()).close();
    assert.ok(host.lines.some((line) => line.includes('not incremented more often')));
  });

  it('refuses a copy of the store from before the last start, and from while the daemon ran', async () => {
    const first = await host.guard();
    await host.save('early');
    await host.work(first);
    await first.close();
    await host.save('stopped');
    const second = await host.guard();
    await host.save('running');
    await host.work(second, 3);
    await second.close();
    await host.save('newest');
    for (const old of ['early', 'stopped', 'running']) {
      await host.restore(old);
      await assert.rejects(host.guard(), refused(/older copy: the TPM counts \d+, the store \d+/), old);
    }
    assert.equal(host.events.length, 3);
    await host.restore('newest');
    await (await host.guard()).close();
  });

  it('refuses a copy from before the counter was made, or without its record', async () => {
    await host.save('before');
    await (await host.guard()).close();
    await host.save('newest');
    await host.restore('before');
    await assert.rejects(host.guard(), refused(/no record of the counter/));
    await host.restore('newest');
    await host.store.putHostRecords(new Map([[LEASE_RECORD, null]]));
    await assert.rejects(host.guard(), refused(/no record of the counter/));
  });

  it('refuses a record of the counter that was edited', async () => {
    await (await host.guard()).close();
    const record = host.store.hostRecord(LEASE_RECORD) ?? assert.fail();
    const text = record
      .toString('latin1')
      .replace(/"counter":"(\d+)"/, (_, value: string) => `"counter":"${(BigInt(value) + 1n).toString()}"`);
    await host.store.putHostRecords(new Map([[LEASE_RECORD, Buffer.from(text, 'latin1')]]));
    await assert.rejects(host.guard(), refused(/record of the counter was changed/));
  });

  it('refuses when the counter was removed or made anew by the owner of the chip', async () => {
    await (await host.guard()).close();
    await undefine((await findCounter()) ?? assert.fail());
    await assert.rejects(host.guard(), refused(/was removed from the TPM/));
  });

  it('refuses one guest whose older records were put back, and a guest that had been removed', async () => {
    const guard = await host.guard();
    await host.work(guard, 2);
    const old = await host.store.storedGuest(host.guest);
    await host.store.guestRecords(host.guest.id, stateKey).commit(new Map([['nv/1', Buffer.alloc(2)]]));
    await host.work(guard, 1);
    await guard.release(host.guest.id);
    await guard.close();
    await host.store.restoreGuest(old);
    const again = await host.guard();
    await assert.rejects(host.work(again), refused(/commit 2, but it had reached 4: they are an older copy/));
    await host.store.removeGuest(host.guest.id);
    await again.close();
    const accepting = await host.guard();
    await accepting.accept(host.guest.id);
    await host.store.restoreGuest(old);
    await host.work(accepting);
    await host.store.removeGuest(host.guest.id);
    await accepting.close();
    await host.store.restoreGuest(old);
    const third = await host.guard();
    await assert.rejects(host.work(third), refused(/not known to this store/));
    await third.accept(host.guest.id);
    await host.work(third);
    await third.close();
  });

  it('lets an older copy pass where that is configured, tells so, and starts from there', async () => {
    await (await host.guard()).close();
    await host.save('old');
    const guard = await host.guard();
    await host.work(guard, 5);
    await guard.close();
    await host.restore('old');
    const allowed = await host.guard('allow');
    await host.work(allowed, 1);
    await allowed.close();
    assert.deepEqual(
      host.events.map((event) => [event.guest, event.allowed]),
      [[undefined, true]],
    );
    assert.ok(host.lines.some((line) => line.startsWith('OLDER STATE IS USED')));
    await host.save('allowed');
    await (await host.guard()).close();
    for (const old of ['old', 'allowed']) {
      await host.restore(old);
      await assert.rejects(host.guard(), refused(/older copy/));
    }
  });

  it('does not mistake a crash at any point for a rollback', async () => {
    // Before and after every write of the store, from the first start on, again and again.
    for (let point = 0; ; point++) {
      let left = point % 12;
      const crash = (): void => {
        if (left-- === 0) throw new Crash('killed');
      };
      const guard = await host.guard('refuse', crash).catch((error: unknown) => {
        if (!(error instanceof Crash)) throw error;
        return undefined;
      });
      if (guard !== undefined) {
        await host.work(guard).catch((error: unknown) => {
          assert.ok(error instanceof Crash);
        });
        await guard.close();
      }
      if (point > 30) break;
    }
    assert.deepEqual(host.events, []);
  });
});

describe('the counter when the chip goes away', function () {
  this.timeout(120_000);
  it('is right again after the connection dropped at any of its commands', async () => {
    let countdown = -1;
    const bench = await Bench.start({ drop: (command) => command.readUInt32BE(6) !== TPM_CC.Startup && countdown-- === 0 });
    const hardware = await bench.open();
    const host = await Host.create(hardware);
    try {
      await (await host.guard()).close();
      for (let at = 0; ; at++) {
        countdown = at;
        const guard = await host.guard();
        await host.work(guard);
        await guard.close();
        if (countdown >= 0) {
          assert.ok(at > 8, 'at each of them');
          break;
        }
      }
      assert.deepEqual(host.events, []);
    } finally {
      await host.dispose();
      await bench.stop();
    }
  });
});

describe('a daemon whose state was rolled back', function () {
  this.timeout(60_000);
  it('refuses to start with exit code 3, and shows the counter in status', async () => {
    const daemon = await RunningDaemon.create();
    const store = join(daemon.config.stateDir, 'store');
    try {
      await daemon.start();
      await daemon.ask('POST', '/v1/guests', { name: 'web1' });
      await daemon.stop();
      await cp(store, join(daemon.root, 'old'), { recursive: true });
      await daemon.start();
      assert.match((await daemon.ask('GET', '/v1/status')).text, /"rollback":\{"whenDetected":"refuse","index":25187408,"counter":"\d+"/);
      await daemon.stop();
      await rm(store, { recursive: true });
      await cp(join(daemon.root, 'old'), store, { recursive: true });
      await assert.rejects(daemon.start(), refused(/older copy/));
      daemon.config = { ...daemon.config, whenRollback: 'allow' };
      await daemon.start();
      assert.equal((await daemon.ask('POST', '/v1/guests/web1/start')).body.state, 'running');
    } finally {
      await daemon.dispose();
    }
  });
});
