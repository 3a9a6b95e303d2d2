import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Account } from '../../../src/hardware/chip/usage.js';
import { FifoScheduler, type TurnRequest } from '../../../src/hardware/turns/scheduler.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';

const request: TurnRequest = { guest: new Account('guest'), kind: 'use' };
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('first-come scheduler', () => {
  it('runs one job at a time, in the order of the calls', async () => {
    const scheduler = new FifoScheduler();
    const order: string[] = [];
    const job = (name: string) => async (): Promise<string> => {
      order.push(`${name} begins`);
      await tick();
      order.push(`${name} ends`);
      return name;
    };
    assert.deepEqual(await Promise.all(['a', 'b'].map((name) => scheduler.run(request, job(name)))), ['a', 'b']);
    assert.deepEqual(order, ['a begins', 'a ends', 'b begins', 'b ends']);
    assert.equal(scheduler.pending, 0);
  });

  it('goes on after a job that failed', async () => {
    const scheduler = new FifoScheduler();
    const failing = scheduler.run(request, () => Promise.reject(new Error('broken')));
    const next = scheduler.run(request, () => Promise.resolve(1));
    await assert.rejects(failing, /broken/);
    assert.equal(await next, 1);
  });

  it('answers TPM_RC_RETRY when the queue is full', async () => {
    const scheduler = new FifoScheduler(2);
    const waiting = [scheduler.run(request, tick), scheduler.run(request, tick)];
    await assert.rejects(scheduler.run(request, tick), (error: unknown) => error instanceof TpmError && error.code === TPM_RC.RETRY);
    await Promise.all(waiting);
    await scheduler.run(request, tick);
  });
});

describe('a job that nobody waits for any more', () => {
  const isCanceled = (error: unknown): boolean => error instanceof TpmError && error.code === TPM_RC.CANCELED;

  it('leaves the queue at once, and makes room there', async () => {
    const scheduler = new FifoScheduler(3);
    const ran: string[] = [];
    let release = (): void => undefined;
    const first = scheduler.run(request, () => new Promise<void>((resolve) => (release = resolve)));
    const given = new AbortController();
    const second = scheduler.run({ ...request, signal: given.signal }, () => Promise.resolve(ran.push('second')));
    const third = scheduler.run(request, () => Promise.resolve(ran.push('third')));
    await tick();
    assert.equal(scheduler.pending, 3);
    given.abort();
    await assert.rejects(second, isCanceled);
    assert.equal(scheduler.pending, 2);
    const fourth = scheduler.run(request, () => Promise.resolve(ran.push('fourth')));
    release();
    await Promise.all([first, third, fourth]);
    assert.deepEqual(ran, ['third', 'fourth']);
    await assert.rejects(
      scheduler.run({ ...request, signal: given.signal }, () => Promise.resolve(ran.push('too late'))),
      isCanceled,
    );
    assert.deepEqual([ran.length, scheduler.pending], [2, 0]);
  });

  it('is not taken away from whoever still waits, in any order of calls and withdrawals', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('ask' as const), cancelable: fc.boolean() }),
      fc.record({ kind: fc.constant('cancel' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('tick' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const scheduler = new FifoScheduler(8);
        const started: number[] = [];
        const asked: { controller: AbortController; outcome: Promise<string> }[] = [];
        let running = 0;
        for (const one of steps) {
          if (one.kind === 'tick') await tick();
          else if (one.kind === 'cancel') asked[one.which % Math.max(asked.length, 1)]?.controller.abort();
          else {
            const controller = new AbortController();
            const number = asked.length;
            const signal = one.cancelable ? controller.signal : undefined;
            const job = async (): Promise<string> => {
              assert.equal(running++, 0, 'one at a time');
              started.push(number);
              await tick();
              running--;
              return 'done';
            };
            const outcome = scheduler.run({ ...request, signal }, job).catch((error: unknown) => {
              assert.ok(error instanceof TpmError);
              return error.code === TPM_RC.CANCELED ? 'canceled' : error.code === TPM_RC.RETRY ? 'full' : 'failed';
            });
            asked.push({ controller, outcome });
          }
        }
        const outcomes = await Promise.all(asked.map(({ outcome }) => outcome));
        assert.deepEqual(
          started,
          [...asked.keys()].filter((number) => outcomes[number] === 'done'),
          'what ran is what was answered, in the order of the calls',
        );
        outcomes.forEach((outcome, number) => {
          if (outcome === 'canceled') assert.ok(asked[number]?.controller.signal.aborted);
        });
        assert.equal(scheduler.pending, 0);
      }),
    );
  });
});

describe('account', () => {
  it('counts by guest command', () => {
    const guest = new Account('guest');
    guest.begin('Sign');
    guest.record(2);
    guest.record(3);
    guest.begin('PCR_Read');
    guest.begin('Sign');
    guest.record(1);
    assert.deepEqual(guest.counters(), [
      { command: 'Sign', calls: 2, hardwareCommands: 3, chipMilliseconds: 6 },
      { command: 'PCR_Read', calls: 1, hardwareCommands: 0, chipMilliseconds: 0 },
    ]);
  });
});
