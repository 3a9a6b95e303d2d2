// What a guest can cause in the log: a few lines of each kind, and their number.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { GuestLog } from '../../src/guest-log.js';
import { codeOf, frame, none, parse } from '../support/frames.js';
import { CreatePrimary, RSA_Decrypt, Startup } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SU } from '../../src/tpm/constants/index.js';
import { atParameter, TPM_RC } from '../../src/tpm/response-code.js';
import { Exchange, responseSize } from '../support/exchange.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { rsaTemplate } from '../support/templates.js';

const TIMES = 1000;
const CMD_STOP = Buffer.from('0000000e', 'hex');
/** CMD_SET_STATEBLOB, of the volatile state, 4 bytes that are none. */
const SET_STATEBLOB = Buffer.from('0000000d000000000000000200000004deadbeef', 'hex');

describe('the log of a guest', () => {
  const lines: string[] = [];
  const line = (level: string) => (message: string, fields: unknown) => lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
  const logger = { error: line('error'), warn: line('warn'), info: line('info'), debug: line('debug') };
  const open = (burst: number, interval: number): GuestLog => new GuestLog(logger as never, 'web1', { burst, interval });
  beforeEach(() => {
    lines.length = 0;
  });

  it('has the first lines of each kind, and then their number', () => {
    const log = open(2, 60_000);
    for (let i = 0; i < TIMES; i++) log.warn('refused', { i });
    log.error('refused', {});
    log.close();
    assert.deepEqual(lines, [
      'warn refused {"guest":"web1","i":0}',
      'warn refused {"guest":"web1","i":1}',
      'error refused {"guest":"web1"}',
      'warn refused: 998 more like it {"guest":"web1"}',
    ]);
  });

  it('tells the number when no more come, and writes again after a time', async () => {
    const log = open(1, 20);
    for (let i = 0; i < 5; i++) log.warn('refused', { i });
    await delay(60);
    log.warn('refused', { i: 5 });
    assert.deepEqual(lines, [
      'warn refused {"guest":"web1","i":0}',
      'warn refused: 4 more like it {"guest":"web1"}',
      'warn refused {"guest":"web1","i":5}',
    ]);
    log.close();
    assert.equal(lines.length, 3);
  });
});

describe('a guest that repeats what is refused', function () {
  this.timeout(60_000);
  let daemon: RunningDaemon;
  const exchanges: Exchange[] = [];

  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
  });
  after(async () => {
    for (const exchange of exchanges) exchange.close();
    await daemon.dispose();
  });
  const connect = (path: string): Exchange => {
    const exchange = new Exchange({ path });
    exchanges.push(exchange);
    return exchange;
  };

  it('leaves a few lines in the log', async () => {
    const { control } = (await daemon.ask('POST', '/v1/guests', { name: 'noisy' })).body;
    const data = connect(control.replace(/\.ctrl$/, ''));
    const send = (bytes: Buffer): Promise<Buffer> => data.send(bytes, responseSize);
    await send(frame(Startup, { startupType: TPM_SU.CLEAR }));
    const inSensitive = { userAuth: none, data: none };
    const request = { primaryHandle: TPM_RH.OWNER, inSensitive, inPublic: rsaTemplate(2048), outsideInfo: none, creationPCR: [] };
    const made = parse(CreatePrimary, await send(frame(CreatePrimary, request))).out;
    assert.ok(made);
    const before = daemon.log.length;
    const inScheme = { scheme: TPM_ALG.NULL, details: null } as const;
    const decrypt = frame(RSA_Decrypt, { keyHandle: made.objectHandle, cipherText: Buffer.alloc(256, 0xff), inScheme, label: none });
    for (let i = 0; i < TIMES; i++) assert.equal(codeOf(await send(decrypt)), atParameter(TPM_RC.VALUE, 1));

    const commands = connect(control);
    const ask = (bytes: Buffer): Promise<Buffer> => commands.send(bytes, () => 4);
    assert.equal((await ask(CMD_STOP)).readUInt32BE(0), 0);
    for (let i = 0; i < TIMES; i++) assert.notEqual((await ask(SET_STATEBLOB)).readUInt32BE(0), 0);
    const lines = daemon.log.slice(before);
    assert.ok(lines.length >= 1 && lines.length <= 8, lines.join('\n'));
    assert.ok(lines.some((text) => text.includes('a state blob was refused')));
    await daemon.ask('POST', '/v1/guests/noisy/stop');
    assert.ok(
      daemon.log.some((text) => /a state blob was refused: 99\d more like it/.test(text)),
      daemon.log.slice(before).join('\n'),
    );
  });
});
