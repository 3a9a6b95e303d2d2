import assert from 'node:assert/strict';
import { Tcti } from '../../src/native/index.js';
import { TpmClient, type Transceive } from '../../src/tpm/client.js';
import { CreatePrimary, FlushContext, GetRandom, StirRandom } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH } from '../../src/tpm/constants/index.js';
import { errorResponse } from '../../src/tpm/frame.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { CommandRefused, ResponseForged } from '../../src/tpm/response-error.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { eccTemplate } from '../support/templates.js';

describe('a client of a TPM', () => {
  let swtpm: Swtpm;
  let tcti: Tcti;
  const transceive: Transceive = (frame) => tcti.transceive(frame);

  before(async () => {
    swtpm = await startSwtpm();
    tcti = await Tcti.open(swtpm.tcti);
  });

  after(async () => {
    await tcti.close();
    await swtpm.stop();
  });

  it('gives parameters and handles by name', async () => {
    const client = new TpmClient(transceive);
    const { randomBytes } = await client.execute(GetRandom, { bytesRequested: 16 });
    assert.equal(randomBytes.length, 16);
    const nothing = Buffer.alloc(0);
    const { objectHandle, outPublic } = await client.execute(CreatePrimary, {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: nothing, data: nothing },
      inPublic: eccTemplate(),
      outsideInfo: nothing,
      creationPCR: [],
    });
    assert.equal(objectHandle >>> 24, 0x80);
    assert.equal(outPublic.type, TPM_ALG.ECC);
    await client.execute(FlushContext, { flushHandle: objectHandle });
  });

  it('rejects with what the TPM refused', async () => {
    const refused = new TpmClient(transceive).execute(FlushContext, { flushHandle: 0x80ffffff });
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof CommandRefused);
      assert.deepEqual([error.command, error.base], ['FlushContext', TPM_RC.VALUE]);
      return true;
    });
  });

  it('sends a command again while the TPM asks for that, as often as it was told', async () => {
    for (const code of [TPM_RC.RETRY, TPM_RC.YIELDED]) {
      let busy = 3;
      const frames: string[] = [];
      const client = new TpmClient(
        (frame) => {
          frames.push(frame.toString('hex'));
          return busy-- > 0 ? Promise.resolve(errorResponse(code)) : transceive(frame);
        },
        { times: 3, milliseconds: 1 },
      );
      await client.execute(StirRandom, { inData: Buffer.from('salt') });
      assert.equal(frames.length, 4);
      assert.equal(new Set(frames).size, 1);
      busy = 4;
      await assert.rejects(client.execute(StirRandom, { inData: Buffer.from('salt') }), CommandRefused);
    }
  });

  it('takes no response that is not one to its command', async () => {
    const response = await transceive(Buffer.from('80010000000c0000017b0008', 'hex'));
    const altered = [response.subarray(0, 9), response.subarray(0, -1), Buffer.concat([response, Buffer.of(0)])];
    const shorter = Buffer.from(response.subarray(0, -1));
    shorter.writeUInt32BE(shorter.length, 2);
    const withSessions = Buffer.from(response);
    withSessions.writeUInt16BE(0x8002);
    for (const bytes of [...altered, shorter, withSessions]) {
      const client = new TpmClient(() => Promise.resolve(bytes));
      await assert.rejects(client.execute(GetRandom, { bytesRequested: 8 }), ResponseForged);
    }
  });
});
