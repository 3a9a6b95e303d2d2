// What somebody sees, and can do, who sits on the wires between the host and the chip.
import assert from 'node:assert/strict';
import { hkdfSync } from 'node:crypto';
import { ResponseForged } from '../../../src/tpm/response-error.js';
import { getCurve } from '../../../src/crypto/ecc-curves.js';
import { generateEccKey, multiply } from '../../../src/crypto/ecc.js';
import { TPM_ALG, TPM_CC } from '../../../src/tpm/constants/index.js';
import { commandCode } from '../../support/relay.js';
import { Bench, makeKey, newGuest, signs } from '../fixture.js';

describe('on the bus', () => {
  let bench: Bench;
  let traffic: Buffer[] = [];
  let forge: ((response: Buffer, command: Buffer) => void) | undefined;

  before(async () => {
    bench = await Bench.start({
      onCommand: (command) => {
        traffic.push(Buffer.from(command));
      },
      onResponse: (response, command) => {
        traffic.push(Buffer.from(response));
        forge?.(response, command);
      },
    });
  });
  after(() => bench.stop());
  afterEach(() => {
    traffic = [];
    forge = undefined;
  });
  const seen = (secret: Buffer): boolean => traffic.some((frame) => frame.includes(secret));

  it('no secret is seen in clear', async () => {
    const hardware = await bench.open();
    const { chip, stateKey } = await newGuest(hardware);
    const { publicArea } = chip.secretsKey;
    assert.ok(publicArea.type === TPM_ALG.ECC);
    const { d, point } = generateEccKey(getCurve(publicArea.parameters.curveID));
    const secret = (await chip.ecdhZGen(chip.secretsKey, point)).x;
    assert.deepEqual(secret, multiply(getCurve(publicArea.parameters.curveID), d, publicArea.unique).x);
    const random = await hardware.entropy(32);
    const authValue = Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), 'tpmux chip auth', 32));
    assert.ok(seen(publicArea.unique.x), 'the traffic is recorded');
    for (const hidden of [secret, secret.subarray(0, 8), stateKey, authValue, authValue.subarray(0, 8), random]) {
      assert.equal(seen(hidden), false);
    }
  });

  it('every command with authorization is in the session, and only there', async () => {
    const hardware = await bench.open();
    const { chip } = await newGuest(hardware);
    traffic = [];
    await signs(chip, await makeKey(chip));
    const authorized = traffic.filter((frame) => frame.readUInt16BE(0) === 0x8002 && frame.readUInt32BE(6) !== 0);
    assert.ok(authorized.length >= 3);
    for (const frame of authorized) assert.equal(frame.readUInt32BE(18) >>> 24, 0x02, 'an HMAC session');
  });

  it('a response that was changed is refused, and the next command works', async () => {
    const hardware = await bench.open();
    const { chip } = await newGuest(hardware);
    const key = await makeKey(chip);
    assert.ok(await signs(chip, key));
    forge = (response, command) => {
      if (commandCode(command) !== TPM_CC.Sign) return;
      response.writeUInt8(response.readUInt8(30) ^ 1, 30);
      forge = undefined;
    };
    await assert.rejects(signs(chip, key), ResponseForged);
    assert.ok(await signs(chip, key));
  });

  it('a response without its authorization is refused', async () => {
    const hardware = await bench.open();
    const { chip } = await newGuest(hardware);
    const key = await makeKey(chip);
    forge = (response, command) => {
      if (commandCode(command) === TPM_CC.Sign) response.writeUInt16BE(0x8001, 0);
    };
    await assert.rejects(signs(chip, key), ResponseForged);
    forge = undefined;
    assert.ok(await signs(chip, key));
  });
});
