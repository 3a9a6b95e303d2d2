// The host root: made once, found again, never taken for something else.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { HostKeyError, ChipUnavailable } from '../../../src/hardware/chip/errors.js';
import { DEFAULT_HOST_ROOT_HANDLE, type HostRecords } from '../../../src/hardware/host/keys.js';
import { Hardware } from '../../../src/hardware/hardware.js';
import { TPM_CC } from '../../../src/tpm/constants/index.js';
import { commandCode } from '../../support/relay.js';
import { Bench, makeKey, newGuest, signs, TestLog } from '../fixture.js';

/** Runs a tool directly on the chip. Not synchronously: the relay in this process has to let go of the chip. */
const tpm2 = async (bench: Bench, ...args: string[]): Promise<string> => {
  const env = { ...process.env, TPM2TOOLS_TCTI: bench.swtpm.tcti };
  return (await promisify(execFile)('tpm2', args, { env, cwd: bench.swtpm.directory, timeout: 10_000 })).stdout;
};

describe('host root', () => {
  const benches: Bench[] = [];
  const start = async (...args: Parameters<typeof Bench.start>): Promise<Bench> => {
    const bench = await Bench.start(...args);
    benches.push(bench);
    return bench;
  };
  afterEach(async () => {
    for (const bench of benches.splice(0)) await bench.stop();
  });

  it('is made at the first start and found at the next', async () => {
    const bench = await start();
    const first = await bench.open();
    const identity = await first.createGuestKeys('guest');
    const { stateKey } = await first.openGuest(identity, 'guest');
    const records = JSON.parse(JSON.stringify(first.hostRecords)) as HostRecords;
    await first.close();
    const commands = await bench.commandsOf(async () => {
      const second = await bench.open({ hostRecords: records });
      assert.deepEqual(second.hostRecords, records);
      const opened = await second.openGuest(identity, 'guest');
      assert.deepEqual(opened.stateKey, stateKey);
    });
    assert.equal(commands.includes('CreatePrimary'), false);
    assert.match(await tpm2(bench, 'getcap', 'handles-persistent'), /0x81005450/i);
  });

  it('can be at another handle', async () => {
    const bench = await start();
    const hardware = await bench.open({ hostRootHandle: 0x81000123 });
    assert.equal(hardware.hostRoot.handle, 0x81000123);
    assert.match(await tpm2(bench, 'getcap', 'handles-persistent'), /0x81000123/i);
  });

  it('comes back when it was evicted: it is a function of the owner seed', async () => {
    const bench = await start();
    const { hostRecords } = await bench.open();
    await tpm2(bench, 'evictcontrol', '-Q', '-C', 'o', '-c', '0x81005450');
    const again = await bench.open({ hostRecords });
    assert.equal(again.hostRoot.name.toString('hex'), hostRecords.hostRootName);
  });

  it('refuses a handle that another key occupies, and names it and the way out', async () => {
    const bench = await start();
    await tpm2(bench, 'createprimary', '-Q', '-C', 'o', '-G', 'ecc', '-c', 'other.ctx');
    await tpm2(bench, 'evictcontrol', '-Q', '-C', 'o', '-c', 'other.ctx', '0x81005450');
    await assert.rejects(bench.open(), (error: unknown) => {
      assert.ok(error instanceof HostKeyError);
      assert.match(error.message, /0x81005450.*occupied.*another handle.*tpm2_evictcontrol -C o -c 0x81005450/);
      return true;
    });
    assert.equal((await bench.open({ hostRootHandle: DEFAULT_HOST_ROOT_HANDLE + 1 })).hostRoot.handle, 0x81005451);
  });

  it('refuses an RSA key at its handle', async () => {
    const bench = await start();
    await tpm2(bench, 'createprimary', '-Q', '-C', 'o', '-G', 'rsa', '-c', 'other.ctx');
    await tpm2(bench, 'evictcontrol', '-Q', '-C', 'o', '-c', 'other.ctx', '0x81005450');
    await assert.rejects(bench.open(), HostKeyError);
  });

  it('refuses another TPM, and a TPM that was cleared', async () => {
    const [one, two] = [await start(), await start()];
    const { hostRecords } = await one.open();
    const isOther = (error: unknown): boolean => error instanceof HostKeyError && /cleared, or it is another TPM/.test(error.message);
    await assert.rejects(two.open({ hostRecords }), isOther);
    await two.open();
    await assert.rejects(two.open({ hostRecords }), isOther);
    await tpm2(one, 'clear', '-c', 'p');
    await assert.rejects(one.open({ hostRecords }), isOther);
  });

  it('says that the owner authorization is wrong', async () => {
    const bench = await start();
    await tpm2(bench, 'changeauth', '-c', 'owner', 'secret');
    for (const ownerAuth of [undefined, Buffer.from('wrong')]) {
      await assert.rejects(bench.open(ownerAuth === undefined ? {} : { ownerAuth }), (error: unknown) => {
        assert.ok(error instanceof HostKeyError);
        assert.match(error.message, /owner authorization of the TPM is wrong/);
        return true;
      });
    }
  });

  it('uses the owner authorization once, and not in clear', async () => {
    const seen: Buffer[] = [];
    const bench = await start({ onCommand: (command) => seen.push(command) });
    await tpm2(bench, 'changeauth', '-c', 'owner', 'a long owner secret');
    const { hostRecords } = await bench.open({ ownerAuth: Buffer.from('a long owner secret') });
    assert.ok(seen.some((command) => commandCode(command) === TPM_CC.EvictControl));
    assert.equal(
      seen.some((command) => command.includes('a long owner secret')),
      false,
    );
    await bench.open({ hostRecords });
    assert.equal((await tpm2(bench, 'getcap', 'handles-transient')).trim(), '');
  });

  it('explains keys of another TPM', async () => {
    const [one, two] = [await start(), await start()];
    const identity = await (await one.open()).createGuestKeys('guest');
    const hardware = await two.open();
    await assert.rejects(hardware.openGuest(identity, 'guest'), (error: unknown) => {
      assert.ok(error instanceof HostKeyError);
      assert.match(error.message, /guest guest were not made by this TPM/);
      return true;
    });
    const { chip } = await newGuest(hardware);
    assert.ok(await signs(chip, await makeKey(chip)));
  });

  it('says that there is no TPM', async () => {
    await assert.rejects(Hardware.open({ tcti: 'swtpm:path=/nonexistent/tpm.sock' }, new TestLog()), ChipUnavailable);
  });
});

describe('probe', () => {
  it('tells what chip there is and changes nothing', async () => {
    const bench = await Bench.start();
    try {
      await tpm2(bench, 'createprimary', '-Q', '-C', 'n', '-c', 'left.ctx');
      const info = await Hardware.probe(bench.swtpm.tcti, new TestLog());
      assert.equal(info.manufacturer, 'IBM');
      assert.equal(info.slots, 3);
      assert.deepEqual([info.rsaKeyBits.has(2048), info.curves.has(3)], [true, true]);
      assert.notEqual((await tpm2(bench, 'getcap', 'handles-transient')).trim(), '');
      assert.equal((await tpm2(bench, 'getcap', 'handles-persistent')).trim(), '');
    } finally {
      await bench.stop();
    }
  });
});
