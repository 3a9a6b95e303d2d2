import assert from 'node:assert/strict';
import fc from 'fast-check';
import { feedFrames, noFrame, type FramedCommand, type FrameState } from '../../src/transport/frame.js';
import { commandOf } from './echo-tpm.js';

/** Feeds a stream cut at `cuts` and collects what comes out. */
function feedAll(stream: Buffer, cuts: readonly number[]): { frames: string[]; state: FrameState; violation: string | undefined } {
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  let state = noFrame;
  const frames: string[] = [];
  let from = 0;
  for (const to of [...places, stream.length]) {
    const step = feedFrames(state, stream.subarray(from, to));
    frames.push(...step.commands.map(({ frame }) => frame.toString('hex')));
    state = step.state;
    if (step.violation !== undefined) return { frames, state, violation: step.violation };
    from = to;
  }
  return { frames, state, violation: undefined };
}

/** The simulator's prefix of a command. */
function sendCommand(locality: number, size: number): Buffer {
  const prefix = Buffer.alloc(9);
  prefix.writeUInt32BE(8);
  prefix.writeUInt8(locality, 4);
  prefix.writeUInt32BE(size, 5);
  return prefix;
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

  it("takes the simulator's prefix where it may stand, wherever the stream is cut", () => {
    const sent = fc.record({ frame: command, locality: fc.option(fc.nat(255), { nil: undefined }) });
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 8 }), cuts, (commands, where) => {
        const stream = Buffer.concat(
          commands.flatMap(({ frame, locality }) => (locality === undefined ? [frame] : [sendCommand(locality, frame.length), frame])),
        );
        const places = [...new Set(where.map((cut) => cut % (stream.length + 1))), stream.length].sort((a, b) => a - b);
        const got: FramedCommand[] = [];
        let [state, from] = [noFrame, 0];
        for (const to of places) {
          const step = feedFrames(state, stream.subarray(from, to), true);
          assert.equal(step.violation, undefined);
          got.push(...step.commands);
          [state, from] = [step.state, to];
        }
        assert.deepEqual(
          got.map(({ frame, locality, size }) => [frame.toString('hex'), locality, size]),
          commands.map(({ frame, locality }) => [frame.toString('hex'), locality, frame.length + (locality === undefined ? 0 : 9)]),
        );
        assert.equal(state.length, 0);
      }),
    );
  });

  it('takes no prefix where none may stand', () => {
    const frame = commandOf(Buffer.from('abc'));
    const { commands, violation } = feedFrames(noFrame, Buffer.concat([sendCommand(4, frame.length), frame]));
    assert.equal(commands.length, 0);
    assert.match(violation ?? '', /says \d+ bytes/);
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
