import assert from 'node:assert/strict';
import fc from 'fast-check';
import { feedFrames, noFrame, type FrameState } from '../../src/transport/frame.js';
import { commandOf } from './echo-tpm.js';

/** Feeds a stream cut at `cuts` and collects what comes out. */
function feedAll(stream: Buffer, cuts: readonly number[]): { frames: string[]; state: FrameState; violation: string | undefined } {
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  let state = noFrame;
  const frames: string[] = [];
  let from = 0;
  for (const to of [...places, stream.length]) {
    const step = feedFrames(state, stream.subarray(from, to));
    frames.push(...step.frames.map((frame) => frame.toString('hex')));
    state = step.state;
    if (step.violation !== undefined) return { frames, state, violation: step.violation };
    from = to;
  }
  return { frames, state, violation: undefined };
}

const command = fc
  .oneof(fc.constant(0), fc.integer({ min: 0, max: 40 }), fc.constant(4086))
  .chain((size) => fc.uint8Array({ minLength: size, maxLength: size }).map((body) => commandOf(Buffer.from(body))));
const cuts = fc.array(fc.nat(20_000), { maxLength: 40 });

describe('cutting a stream into commands', () => {
  it('gives the same commands however the stream comes in pieces', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 12 }), fc.nat(30), cuts, (commands, rest, where) => {
        const tail = commandOf(Buffer.alloc(40)).subarray(0, rest);
        const result = feedAll(Buffer.concat([...commands, tail]), where);
        assert.deepEqual(
          result.frames,
          commands.map((frame) => frame.toString('hex')),
        );
        assert.equal(result.state.length, rest);
        assert.equal(result.violation, undefined);
      }),
    );
  });

  it('works byte by byte', () => {
    const stream = Buffer.concat([commandOf(Buffer.from('abc')), commandOf(Buffer.alloc(0))]);
    assert.equal(feedAll(stream, Array.from(stream.keys())).frames.length, 2);
  });

  it('ends the stream at an impossible size, after the commands before it, wherever it is cut', () => {
    const size = fc.oneof(fc.nat(9), fc.integer({ min: 4097, max: 0xffffffff }));
    fc.assert(
      fc.property(fc.array(command, { maxLength: 3 }), size, cuts, (commands, bad, where) => {
        const header = Buffer.alloc(10);
        header.writeUInt16BE(0x8001);
        header.writeUInt32BE(bad, 2);
        const result = feedAll(Buffer.concat([...commands, header]), where);
        assert.deepEqual(
          result.frames,
          commands.map((frame) => frame.toString('hex')),
        );
        assert.match(result.violation ?? '', new RegExp(`says ${bad.toString()} bytes`));
      }),
    );
  });

  it('keeps at most one command, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 50 }), (pieces) => {
        let state = noFrame;
        for (const piece of pieces) {
          const step = feedFrames(state, Buffer.from(piece));
          state = step.state;
          assert.ok(state.length < 4096);
          if (step.violation !== undefined) break;
        }
      }),
    );
  });
});
