import assert from 'node:assert/strict';
import { Account } from '../../../src/hardware/turns/usage.js';
import { FifoScheduler } from '../../../src/hardware/turns/scheduler.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';

const account = new Account('guest');
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
    assert.deepEqual(await Promise.all(['a', 'b'].map((name) => scheduler.run(account, job(name)))), ['a', 'b']);
    assert.deepEqual(order, ['a begins', 'a ends', 'b begins', 'b ends']);
    assert.equal(scheduler.pending, 0);
  });

  it('goes on after a job that failed', async () => {
    const scheduler = new FifoScheduler();
    const failing = scheduler.run(account, () => Promise.reject(new Error('broken')));
    const next = scheduler.run(account, () => Promise.resolve(1));
    await assert.rejects(failing, /broken/);
    assert.equal(await next, 1);
  });

  it('answers TPM_RC_RETRY when the queue is full', async () => {
    const scheduler = new FifoScheduler(2);
    const waiting = [scheduler.run(account, tick), scheduler.run(account, tick)];
    await assert.rejects(scheduler.run(account, tick), (error: unknown) => error instanceof TpmError && error.code === TPM_RC.RETRY);
    await Promise.all(waiting);
    await scheduler.run(account, tick);
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
