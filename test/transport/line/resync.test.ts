import assert from 'node:assert/strict';
import { mock } from 'node:test';
import fc from 'fast-check';
import { expireLine, feedLine, LINE_GAP_MS, quietLine, touchLine, type LineState } from '../../../src/transport/line/resync.js';
import { commandOf } from '../echo-tpm.js';

const hex = (frames: readonly Buffer[]): string[] => frames.map((frame) => frame.toString('hex'));

/** A command with a real command code and a body that can contain anything. */
const command = fc
  .tuple(fc.integer({ min: 0x11f, max: 0x1ff }), fc.constantFrom(0x8001, 0x8002), fc.uint8Array({ maxLength: 60 }))
  .map(([code, tag, body]) => {
    const frame = commandOf(Buffer.from(body));
    frame.writeUInt16BE(tag, 0);
    frame.writeUInt32BE(code, 6);
    return frame;
  });
/** Bytes that cannot begin a header. */
const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0x80 ? 0x81 : byte))));

/** Feeds a stream cut at `cuts`, all at once in time, and then lets silence pass. */
function feedAll(stream: Buffer, cuts: readonly number[]): { frames: string[]; noise: number; state: LineState } {
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  let state = quietLine;
  let from = 0;
  let thrown = 0;
  const frames: string[] = [];
  for (const to of [...places, stream.length]) {
    const step = feedLine(state, stream.subarray(from, to), 1000);
    frames.push(...hex(step.frames));
    thrown += step.noise;
    state = step.state;
    from = to;
  }
  const last = expireLine(state, 1000 + LINE_GAP_MS);
  return { frames: [...frames, ...hex(last.frames)], noise: thrown + last.noise, state: last.state };
}

const cuts = fc.array(fc.nat(5000), { maxLength: 30 });

describe('finding commands on a noisy line', () => {
  it('gives exactly the commands, however the stream is cut, with noise before, between and after them', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(noise, command), { maxLength: 8 }), noise, cuts, (parts, after, where) => {
        const result = feedAll(Buffer.concat([...parts.flat(), after]), where);
        assert.deepEqual(result.frames, hex(parts.map(([, each]) => each)));
        assert.equal(
          result.noise,
          parts.reduce((sum, [before]) => sum + before.length, after.length),
        );
        assert.equal(result.state.bytes.length, 0);
      }),
    );
  });

  it('finds the next command after one that was cut off, once its rest has stayed away', () => {
    fc.assert(
      fc.property(command, fc.nat(), command, cuts, (lost, cut, next, where) => {
        const head = lost.subarray(0, 1 + (cut % (lost.length - 1)));
        const first = feedAll(head, where);
        assert.deepEqual(first.frames.slice(1), []);
        const step = feedLine({ bytes: head, since: 0 }, next, LINE_GAP_MS);
        assert.equal(hex(step.frames).at(-1), next.toString('hex'));
        assert.equal(step.state.bytes.length, 0);
      }),
    );
  });

  it('finds commands that a plausible but wrong header has swallowed, as soon as the line is silent', () => {
    const header = fc.integer({ min: 1200, max: 4096 }).map((size) => {
      const wrong = commandOf(Buffer.alloc(0));
      wrong.writeUInt32BE(size, 2);
      return wrong;
    });
    fc.assert(
      fc.property(
        header,
        fc.integer({ min: 1, max: 10 }),
        fc.array(command, { minLength: 1, maxLength: 8 }),
        cuts,
        (wrong, cut, sent, where) => {
          // With its first bytes alone the wrong header may be seen to be wrong at once: both are right.
          const result = feedAll(Buffer.concat([wrong.subarray(0, cut), ...sent]), where);
          if (cut === 10) assert.deepEqual(result.frames, hex(sent));
          else assert.equal(result.frames.at(-1), hex(sent).at(-1));
          assert.equal(result.state.bytes.length, 0);
        },
      ),
    );
  });

  it('waits while the rest of a command comes slowly, and while a command runs', () => {
    const whole = commandOf(Buffer.from('slowly'));
    let state: LineState = quietLine;
    let now = 0;
    for (const byte of whole.subarray(0, -1)) {
      now += LINE_GAP_MS - 1;
      state = feedLine(state, Buffer.from([byte]), now).state;
    }
    now += 60_000;
    state = touchLine(state, now);
    assert.deepEqual(expireLine(state, now + LINE_GAP_MS - 1).frames, []);
    assert.deepEqual(hex(feedLine(state, whole.subarray(-1), now + 1).frames), hex([whole]));
  });

  it('takes no impossible size, tag or command code for a header', () => {
    for (const bad of [
      '80010000000900000144',
      '80010000100100000144',
      '8001ffffffff00000144',
      '80030000000a00000144',
      '80010000000a00010144',
      '80010000000a1f000144',
    ]) {
      const step = feedLine(quietLine, Buffer.from(bad, 'hex'), 0);
      assert.deepEqual([step.frames.length, step.state.bytes.length], [0, 0], bad);
    }
    assert.equal(feedLine(quietLine, Buffer.from('80010000000a20000001', 'hex'), 0).frames.length, 1);
  });

  it('never keeps more than one command, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.uint8Array({ maxLength: 3000 }), fc.nat(3000)), { maxLength: 30 }), (pieces) => {
        let state: LineState = quietLine;
        let now = 0;
        for (const [piece, pause] of pieces) {
          now += pause;
          state = feedLine(state, Buffer.from(piece), now).state;
          assert.ok(state.bytes.length < 4096);
        }
        assert.equal(expireLine(state, now + LINE_GAP_MS).state.bytes.length, 0);
      }),
    );
  });

  it('takes as many steps as there are bytes, even for headers in headers', () => {
    const wrong = Buffer.from('80010000100000000000', 'hex');
    const state = { bytes: Buffer.concat(Array<Buffer>(409).fill(wrong)), since: 0 };
    // Each step goes on with what is left.
    const steps = mock.method(Buffer.prototype as Buffer, 'subarray');
    try {
      assert.equal(expireLine(state, LINE_GAP_MS).noise, 4090);
      assert.ok(steps.mock.callCount() <= 4090, `${steps.mock.callCount().toString()} steps`);
    } finally {
      steps.mock.restore();
    }
  });
});
