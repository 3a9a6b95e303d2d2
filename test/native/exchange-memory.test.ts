import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync } from 'node:fs';
import fc from 'fast-check';
import { closeFd, duplicateFd, ExchangeMemory, recvWithFds, sendWithFds, socketPair } from '../../src/native/index.js';

const SIZES = { input: 8192, response: 4 << 20 };

describe('the exchange of a connection', () => {
  let mine: number;
  let theirs: number;
  let exchange: ExchangeMemory;
  beforeEach(() => {
    [mine, theirs] = socketPair();
    exchange = ExchangeMemory.create(SIZES, true);
  });
  afterEach(() => {
    exchange.close();
    closeFd(mine);
    closeFd(theirs);
  });

  /** What another process finds that has the same memory, whenever this one was killed. */
  const taken = (): ExchangeMemory => {
    assert.ok(exchange.fd !== undefined);
    return ExchangeMemory.adopt(duplicateFd(exchange.fd), SIZES);
  };
  const receive = (of = exchange): Buffer | undefined => of.receive(mine, false)?.data;

  it('has input until it is answered, wherever that is taken over', () => {
    sendWithFds(theirs, Buffer.from('abcdef'));
    assert.equal(receive()?.toString(), 'abcdef');
    assert.equal(receive(), undefined);
    sendWithFds(theirs, Buffer.from('gh'));
    receive();
    assert.equal(taken().input().toString(), 'abcdefgh');
    exchange.begin(3, 7);
    const next = taken();
    assert.deepEqual([next.phase, next.token, next.input().toString()], ['executing', 7, 'abcdefgh']);
    exchange.effect();
    assert.deepEqual([taken().phase, taken().token], ['effect', 7]);
    exchange.answer(Buffer.from('ABC'));
    assert.throws(() => {
      exchange.effect();
    }, /EINVAL/);
    assert.equal(exchange.send(mine), 0);
    assert.equal(taken().phase, 'answered');
    assert.equal(taken().send(mine), 0);
    exchange.done(5);
    const last = taken();
    assert.deepEqual([last.phase, last.token, last.note, last.input().toString()], ['idle', 0, 5, 'defgh']);
    assert.equal(recvWithFds(theirs, 100)?.data.toString(), 'ABC');
  });

  it('sends each byte of a response once, whoever sends it', () => {
    const response = randomBytes(SIZES.response);
    sendWithFds(theirs, Buffer.from('x'));
    receive();
    exchange.begin(1, 1);
    exchange.answer(response);
    const pieces: Buffer[] = [];
    for (let left = response.length; left > 0;) {
      // Each time somebody else, who knows what the memory says.
      const sender = taken();
      try {
        left = sender.send(mine);
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
      }
      sender.close();
      for (let piece = recvWithFds(theirs, 1 << 20); piece !== null; piece = recvWithFds(theirs, 1 << 20)) pieces.push(piece.data);
    }
    assert.ok(Buffer.concat(pieces).equals(response));
  });

  it('gives every byte in order, however much comes and is answered at a time', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ sent: fc.nat(5000), answered: fc.nat(6000) }), { maxLength: 30 }), (steps) => {
        exchange.close();
        exchange = ExchangeMemory.create(SIZES, true);
        let expected = Buffer.alloc(0);
        for (const { sent, answered } of steps) {
          const bytes = randomBytes(Math.min(sent, SIZES.input - expected.length));
          if (bytes.length > 0) sendWithFds(theirs, bytes);
          for (let size = 0; size < bytes.length;) size += receive()?.length ?? 0;
          expected = Buffer.concat([expected, bytes]);
          assert.ok(taken().input().equals(expected));
          const size = Math.min(answered, expected.length);
          exchange.begin(size, 1);
          exchange.answer(Buffer.alloc(0));
          exchange.done(0);
          expected = expected.subarray(size);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('says when there is no room, and when the peer has gone', () => {
    for (let size = 0; size < SIZES.input;) {
      sendWithFds(theirs, Buffer.alloc(4096));
      size += receive()?.length ?? 0;
    }
    sendWithFds(theirs, Buffer.alloc(1));
    assert.throws(() => receive(), { code: 'ENOBUFS' });
    const [a, b] = socketPair();
    const other = ExchangeMemory.create(SIZES, false);
    assert.equal(other.fd, undefined);
    closeFd(b);
    assert.equal(other.receive(a, false)?.data.length, 0);
    other.close();
    closeFd(a);
  });

  it('does what is out of order not at all', () => {
    assert.throws(
      () => {
        exchange.begin(1, 1);
      },
      { code: 'EINVAL' },
    );
    assert.throws(
      () => {
        exchange.answer(Buffer.alloc(1));
      },
      { code: 'EINVAL' },
    );
    assert.throws(() => exchange.send(mine), { code: 'EINVAL' });
    sendWithFds(theirs, Buffer.from('x'));
    receive();
    exchange.begin(1, 1);
    assert.throws(
      () => {
        exchange.answer(Buffer.alloc(SIZES.response + 1));
      },
      { code: 'EMSGSIZE' },
    );
  });

  it('refuses memory that is not one, and closes it', () => {
    const before = readdirSync('/proc/self/fd').length;
    assert.throws(() => ExchangeMemory.adopt(openSync('/dev/null', 'r+'), SIZES), { code: 'EINVAL' });
    assert.ok(exchange.fd !== undefined);
    const { fd } = exchange;
    assert.throws(() => ExchangeMemory.adopt(duplicateFd(fd), { ...SIZES, input: 4096 }), { code: 'EINVAL' });
    assert.throws(() => ExchangeMemory.adopt(duplicateFd(fd), { input: 4096, response: SIZES.response + 8192 }), { code: 'EINVAL' });
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  it('cannot be cut short under whoever uses it', () => {
    assert.ok(exchange.fd !== undefined);
    const path = `/proc/self/fd/${exchange.fd.toString()}`;
    assert.throws(
      () => {
        closeSync(openSync(path, 'w'));
      },
      { code: 'EPERM' },
    );
  });
});
