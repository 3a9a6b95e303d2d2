// What becomes of a job whose chip is restarted under it.
import assert from 'node:assert/strict';
import { ChipRestarted } from '../../../src/hardware/chip/errors.js';
import { Account } from '../../../src/hardware/chip/usage.js';
import type { Hardware } from '../../../src/hardware/hardware.js';
import type { Turn } from '../../../src/hardware/turns/turn.js';
import { GetRandom } from '../../../src/tpm/commands/index.js';
import { TPM_CC } from '../../../src/tpm/constants/index.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';
import { commandCode } from '../../support/relay.js';
import { Bench, turnsOf } from '../fixture.js';

describe('a job during which the chip is restarted', () => {
  let bench: Bench;
  let hardware: Hardware;
  /** Told of the next GetRandom, whose answer never comes. */
  let lost: (() => void) | undefined;
  const request = { guest: new Account('test'), kind: 'use' } as const;
  const draw = async (turn: Turn): Promise<number> => (await turn.execute(GetRandom, { bytesRequested: 8 })).randomBytes.length;
  const draws = (): number => bench.relay.codes.filter((code) => code === TPM_CC.GetRandom).length;

  before(async () => {
    bench = await Bench.start({
      drop: (command) => {
        if (lost === undefined || commandCode(command) !== TPM_CC.GetRandom) return false;
        lost();
        lost = undefined;
        return true;
      },
    });
    hardware = await bench.open();
  });
  after(() => bench.stop());
  beforeEach(() => {
    bench.relay.clear();
    lost = (): void => undefined;
  });

  it('begins anew', async () => {
    assert.equal(await turnsOf(hardware).run(request, draw), 8);
    assert.equal(draws(), 2);
  });

  it('begins anew once', async () => {
    let attempts = 0;
    const job = (turn: Turn): Promise<number> => {
      attempts++;
      lost = (): void => undefined;
      return draw(turn);
    };
    await assert.rejects(turnsOf(hardware).run(request, job), ChipRestarted);
    assert.deepEqual([attempts, draws()], [2, 2]);
  });

  it('is not repeated if it must not be and the chip may have executed the command', async () => {
    await assert.rejects(
      turnsOf(hardware).run({ ...request, repeatable: false }, draw),
      (error: unknown) => error instanceof ChipRestarted && error.maybeExecuted,
    );
    assert.equal(draws(), 1);
  });

  it('is repeated, though it must not be executed twice, if the chip cannot have executed the command', async () => {
    lost = undefined;
    let attempts = 0;
    const job = async (turn: Turn): Promise<number> => (++attempts === 1 ? await turn.resynchronize('a command') : await draw(turn));
    assert.equal(await turnsOf(hardware).run({ ...request, repeatable: false }, job), 8);
    assert.deepEqual([attempts, draws()], [2, 1]);
  });

  it('is not repeated if nobody waits for it any more', async () => {
    const given = new AbortController();
    lost = (): void => {
      given.abort();
    };
    await assert.rejects(
      turnsOf(hardware).run({ ...request, signal: given.signal }, draw),
      (error: unknown) => error instanceof TpmError && error.code === TPM_RC.CANCELED,
    );
    // The next job waits for the end of that one.
    assert.equal(await turnsOf(hardware).run(request, draw), 8);
    assert.equal(draws(), 2);
  });
});
