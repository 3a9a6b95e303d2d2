import assert from 'node:assert/strict';
import fc from 'fast-check';
import { CONTROL_COMMANDS, controlCommand } from '../../../src/transport/control/commands.js';
import { feedControl, noControl, owesRest } from '../../../src/transport/control/stream.js';

/** One request as a client sends it: number, body, and for one-byte bodies the rest of the C union or not. */
const request = fc.constantFrom(...CONTROL_COMMANDS).chain((command) =>
  fc
    .tuple(
      fc.uint8Array({ minLength: command.body, maxLength: command.body }),
      fc.boolean(),
      fc.uint8Array({ maxLength: command.maxPayload === undefined ? 0 : 300 }),
    )
    .map(([fixed, padded, payload]) => {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(command.number);
      const padding = Buffer.alloc(padded ? (command.padding ?? 0) : 0);
      const body = Buffer.concat([fixed, payload]);
      if (command.maxPayload !== undefined) body.writeUInt32BE(payload.length, command.body - 4);
      return { number: command.number, body: body.toString('hex'), bytes: Buffer.concat([number, body, padding]) };
    }),
);

describe('cutting the control channel into requests', () => {
  it('gives the same requests with and without padding, however the stream comes in pieces', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 12 }), fc.array(fc.nat(200), { maxLength: 30 }), (sent, cuts) => {
        const stream = Buffer.concat(sent.map(({ bytes }) => bytes));
        const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
        let state = noControl;
        let from = 0;
        const got: unknown[] = [];
        for (const to of [...places, stream.length]) {
          const step = feedControl(state, stream.subarray(from, to), controlCommand);
          got.push(...step.requests.map(({ number, body }) => ({ number, body: body.toString('hex') })));
          state = step.state;
          from = to;
        }
        assert.deepEqual(
          got,
          sent.map(({ number, body }) => ({ number, body })),
        );
        assert.equal(owesRest(state), false);
      }),
    );
  });

  it('tells the rest of a request from padding', () => {
    const feed = (hex: string): boolean => owesRest(feedControl(noControl, Buffer.from(hex, 'hex'), controlCommand).state);
    assert.equal(feed('00000005'), true);
    assert.equal(feed('0000000200'), true);
    assert.equal(feed('000000'), true);
    assert.equal(feed('0000000500'), false);
    assert.equal(feed('00000005000000'), false);
    assert.equal(feed('0000000500000000'), false);
    assert.equal(feed('0000000302'), true);
  });

  it('ends at a payload that is too long, after the requests before it', () => {
    const step = feedControl(noControl, Buffer.from('0000000e00000007ffffffff00', 'hex'), controlCommand);
    assert.deepEqual(
      step.requests.map(({ number }) => number),
      [0x0e],
    );
    assert.equal(step.violation, 'a control request says 4294967295 bytes follow');
  });

  it('gives up on what follows an unknown request', () => {
    for (const [unknown, ends] of [
      ['00000014', false],
      ['000000ff', false],
      ['00000100', true],
      ['ff000000', true],
    ] as const) {
      const step = feedControl(noControl, Buffer.from(`0000000e${unknown}12345678`, 'hex'), controlCommand);
      assert.deepEqual(
        step.requests.map(({ number }) => number),
        [0x0e, Number.parseInt(unknown, 16)],
      );
      assert.equal(step.state.bytes.length, 0);
      assert.equal(step.violation !== undefined, ends);
    }
  });
});
