// The chip is restarted, cut off or emptied under us.
import assert from 'node:assert/strict';
import { Occupant } from '../../../src/hardware/occupant.js';
import { listHandles } from '../../../src/hardware/chip/sender.js';
import { Chip } from '../../../src/hardware/chip/chip.js';
import { ChipUnavailable } from '../../../src/hardware/chip/errors.js';
import { ContextLoad, ContextSave, CreatePrimary, StartAuthSession } from '../../../src/tpm/commands/index.js';
import { TEMPORARY_ROOT_TEMPLATE } from '../../../src/hardware/host/templates.js';
import { HANDLE_RANGE, TPM_ALG, TPM_CC, TPM_RH, TPM_SE } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { Tcti } from '../../../src/native/index.js';
import { Exchange, responseSize } from '../../support/exchange.js';
import { codeOf, frame, run } from '../../support/frames.js';
import { commandCode } from '../../support/relay.js';
import { waitFor } from '../../support/wait-for.js';
import { Bench, EMPTY, makeKey, newGuest, signs, TestLog, type TestKey, inTurn } from '../fixture.js';
import type { GuestChip } from '../../../src/hardware/guest/guest-chip.js';
import type { Hardware } from '../../../src/hardware/hardware.js';

describe('recovery', () => {
  let bench: Bench;
  let hardware: Hardware;
  let chip: GuestChip;
  const keys: TestKey[] = [];
  let dropOnce: number | undefined;
  const useAll = async (): Promise<void> => {
    for (const key of keys) assert.ok(await signs(chip, key));
  };
  /** Another connection to the same TPM, beside Hardware's. */
  const besides = async <T>(use: (other: Chip) => Promise<T>, clean = false): Promise<T> => {
    const other = await Chip.open(() => Tcti.open(bench.swtpm.tcti), new TestLog(), new Occupant(), { clean });
    try {
      return await use(other);
    } finally {
      await other.close();
    }
  };

  before(async () => {
    bench = await Bench.start({
      drop: (command) => {
        if (commandCode(command) !== dropOnce) return false;
        dropOnce = undefined;
        return true;
      },
    });
    hardware = await bench.open({ timeouts: { busy: 2000, reconnect: 1500 } });
    ({ chip } = await newGuest(hardware));
    for (let i = 0; i < 5; i++) keys.push(await makeKey(chip));
  });
  after(() => bench.stop());

  it('goes on after a power cycle of the chip, whose saved contexts are void', async () => {
    await useAll();
    await useAll();
    await bench.swtpm.restart();
    const commands = await bench.commandsOf(useAll);
    assert.ok(commands.includes('StartAuthSession') && commands.includes('Load'));
  });

  it('goes on after a reset of the chip that nobody told it about', async () => {
    await useAll();
    // The relay keeps the connection; the TPM behind it loses objects and session but is started up.
    await besides(() => Promise.resolve(), true);
    const commands = await bench.commandsOf(useAll);
    const first = commands.indexOf('StartAuthSession');
    assert.ok(first >= 0 && commands.indexOf('Sign', first) > first, commands.join());
    const { used } = hardware.usage().slots;
    await besides(async (other) => {
      assert.equal((await listHandles(other, HANDLE_RANGE.TRANSIENT.first)).length, used, 'what it thinks is in the slots is there');
      assert.equal((await listHandles(other, HANDLE_RANGE.HMAC_SESSION.first)).length, 1);
    });
  });

  it('falls back to the blobs when a context is refused', async () => {
    await useAll();
    await useAll();
    const before = hardware.usage().slots.loads;
    await bench.swtpm.kill();
    await bench.swtpm.restart();
    await useAll();
    assert.ok(hardware.usage().slots.loads > before);
  });

  it('starts the session again when the chip lost it', async () => {
    await useAll();
    await besides(async (other) => {
      for (const flushHandle of await listHandles(other, HANDLE_RANGE.HMAC_SESSION.first)) {
        await other.flush(flushHandle);
      }
    });
    const commands = await bench.commandsOf(() => signs(chip, keys[4] as TestKey));
    assert.ok(commands.includes('StartAuthSession'), commands.join());
    assert.deepEqual(await bench.commandsOf(() => signs(chip, keys[4] as TestKey)), ['Sign']);
    await useAll();
  });

  it('repeats a command whose response was lost', async () => {
    await useAll();
    dropOnce = TPM_CC.Sign;
    const commands = await bench.commandsOf(async () => {
      assert.ok(await signs(chip, keys[0] as TestKey));
    });
    assert.equal(dropOnce, undefined);
    assert.equal(commands.filter((name) => name === 'Sign').length, 2, commands.join());
    assert.ok(commands.indexOf('Startup') < commands.lastIndexOf('Sign'), 'the chip is made usable in between');
    assert.equal(hardware.condition.state, 'ok');
    await useAll();
  });

  it('says so when the chip stays away, and goes on when it is back', async () => {
    await bench.swtpm.kill();
    const states: string[] = [];
    hardware.onCondition = ({ state }) => states.push(state);
    await assert.rejects(signs(chip, keys[0] as TestKey), ChipUnavailable);
    assert.equal(hardware.condition.state, 'unreachable');
    await bench.swtpm.restart();
    await waitFor(() => hardware.condition.state === 'ok');
    await useAll();
    assert.deepEqual(states, ['unreachable', 'ok']);
  });

  it('flushes what a killed run left behind, but no saved session', async () => {
    const leftOver = await bench.open();
    const guest = await newGuest(leftOver, 'killed');
    await signs(guest.chip, await makeKey(guest.chip));
    const saved = await besides(async (other) => {
      const { sessionHandle } = await other.execute(StartAuthSession, {
        tpmKey: TPM_RH.NULL,
        bind: TPM_RH.NULL,
        nonceCaller: Buffer.alloc(16, 1),
        encryptedSalt: EMPTY,
        sessionType: TPM_SE.POLICY,
        symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
        authHash: TPM_ALG.SHA256,
      });
      await other.execute(ContextSave, { saveHandle: sessionHandle });
      return sessionHandle;
    });
    await besides(async (other) => {
      assert.notDeepEqual(await listHandles(other, HANDLE_RANGE.TRANSIENT.first), []);
    });
    const again = await bench.open();
    await besides(async (other) => {
      assert.deepEqual(await listHandles(other, HANDLE_RANGE.TRANSIENT.first), []);
      assert.equal((await listHandles(other, HANDLE_RANGE.HMAC_SESSION.first)).length, 1, 'the new session alone');
      const sessions = await listHandles(other, HANDLE_RANGE.POLICY_SESSION.first);
      assert.deepEqual(
        sessions.map((handle) => handle & 0xffffff),
        [saved & 0xffffff],
      );
    });
    await again.close();
    await besides(async (other) => {
      assert.deepEqual(await listHandles(other, HANDLE_RANGE.HMAC_SESSION.first), [], 'close leaves nothing');
    });
    await useAll();
  });

  const policySession = {
    tpmKey: TPM_RH.NULL,
    bind: TPM_RH.NULL,
    nonceCaller: Buffer.alloc(16),
    encryptedSalt: EMPTY,
    sessionType: TPM_SE.POLICY,
    symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
    authHash: TPM_ALG.SHA256,
  } as const;

  it('makes room for a session where others left theirs loaded (SESSION_MEMORY)', async () => {
    await useAll();
    await besides(async (other) => {
      for (let i = 0; i < 2; i++) await other.execute(StartAuthSession, policySession);
    });
    await inTurn(hardware, async (turn) => {
      const { sessionHandle } = await turn.execute(StartAuthSession, policySession);
      await turn.flush(sessionHandle);
    });
    assert.ok(bench.log.lines.some((line) => line.includes('no room for a session')));
    await useAll();
  });

  it('starts a session though the oldest saved one of somebody else is too far behind (CONTEXT_GAP)', async function () {
    this.timeout(120_000);
    const exchange = new Exchange(bench.swtpm.data);
    const execute = (bytes: Buffer): Promise<Buffer> => exchange.send(bytes, responseSize);
    const start = async (): Promise<number> => (await run(execute, StartAuthSession, policySession)).sessionHandle;
    const save = (saveHandle: number): Promise<Buffer> => execute(frame(ContextSave, { saveHandle }));
    await save(await start());
    const busy = await start();
    const load = Buffer.from(frame(ContextLoad, { context: (await run(execute, ContextSave, { saveHandle: busy })).context }));
    for (let saves = 0; ; saves++) {
      assert.ok(saves < 0x10000, 'the gap ends');
      assert.equal(codeOf(await execute(load)), TPM_RC.SUCCESS);
      const saved = await save(busy);
      if (codeOf(saved) === TPM_RC.CONTEXT_GAP) break;
      // What ContextSave returns is what ContextLoad takes.
      saved.copy(load, 10, 10);
    }
    exchange.close();
    const commands = await bench.commandsOf(() =>
      inTurn(hardware, async (turn) => {
        const { sessionHandle } = await turn.execute(StartAuthSession, policySession);
        await turn.flush(sessionHandle);
      }),
    );
    assert.equal(commands[0], 'StartAuthSession');
    assert.ok(commands.filter((name) => name === 'StartAuthSession').length > 1, 'it was refused at first');
    assert.equal(commands.at(-1), 'FlushContext');
    await useAll();
  });
});

describe('a chip that is full of somebody else’s objects', () => {
  it('is emptied when there is no other way', async () => {
    const bench = await Bench.start();
    try {
      const hardware = await bench.open();
      const { chip } = await newGuest(hardware);
      await chip.close();
      const other = await Chip.open(() => Tcti.open(bench.swtpm.tcti), new TestLog(), new Occupant(), { clean: false });
      for (let i = 0; i < 3; i++) {
        const nothing = { userAuth: EMPTY, data: EMPTY };
        const request = {
          primaryHandle: TPM_RH.NULL,
          inSensitive: nothing,
          inPublic: TEMPORARY_ROOT_TEMPLATE,
          outsideInfo: EMPTY,
          creationPCR: [],
        };
        await other.execute(CreatePrimary, request);
      }
      await other.close();
      const foreign = [0x80000000, 0x80000001, 0x80000002];
      assert.deepEqual(await inTurn(hardware, (turn) => listHandles(turn, HANDLE_RANGE.TRANSIENT.first)), foreign);
      const again = await newGuest(hardware, 'again');
      assert.ok(await signs(again.chip, await makeKey(again.chip)));
      const present = await inTurn(hardware, (turn) => listHandles(turn, HANDLE_RANGE.TRANSIENT.first));
      assert.equal(present.length, hardware.usage().slots.used, 'nothing but what is ours');
    } finally {
      await bench.stop();
    }
  });
});

describe('a chip that nobody started up', () => {
  it('is started up', async () => {
    const bench = await Bench.start({}, { flags: 'not-need-init' });
    try {
      const hardware = await bench.open();
      assert.equal(hardware.info.manufacturer, 'IBM');
      assert.ok(bench.log.lines.some((line) => line.includes('started it up')));
    } finally {
      await bench.stop();
    }
  });
});

describe('a chip that does not answer', () => {
  it('is given up after the configured time, and the command repeated on a new connection', async () => {
    let hang = false;
    const bench = await Bench.start({
      delay: (command) => {
        const late = hang && commandCode(command) === TPM_CC.Sign;
        if (late) hang = false;
        return late ? 1_500 : 0;
      },
    });
    try {
      const hardware = await bench.open({ timeouts: { answer: 1_000 } });
      const { chip } = await newGuest(hardware);
      const key = await makeKey(chip);
      hang = true;
      const commands = await bench.commandsOf(async () => {
        assert.ok(await signs(chip, key));
      });
      assert.equal(hang, false);
      assert.equal(commands.filter((name) => name === 'Sign').length, 2, commands.join());
      assert.ok(bench.log.lines.some((line) => line.includes('the connection to the TPM failed during Sign')));
    } finally {
      await bench.stop();
    }
  });
});

describe('a busy chip', () => {
  it('is asked again, with the same command', async () => {
    let busy = 3;
    const bench = await Bench.start({
      onResponse: (response, command) => {
        if (commandCode(command) !== TPM_CC.TestParms || response.readUInt32BE(6) !== 0 || busy-- <= 0) return;
        response.writeUInt32BE([TPM_RC.RETRY, TPM_RC.TESTING, TPM_RC.YIELDED][busy] ?? TPM_RC.RETRY, 6);
      },
    });
    try {
      const hardware = await bench.open();
      assert.ok(hardware.info.rsaKeyBits.has(2048));
      assert.equal(hardware.usage().commands.find(({ command }) => command === 'TestParms')?.calls, 4 + 3);
    } finally {
      await bench.stop();
    }
  });
});
