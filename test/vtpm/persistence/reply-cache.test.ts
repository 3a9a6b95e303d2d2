import assert from 'node:assert/strict';
import { ReplyCache } from '../../../src/vtpm/persistence/reply-cache.js';

const KEPT = 8;
const answer = (n: number): Buffer => Buffer.from(`answer ${n.toString()}`);

describe('the ring of answers', () => {
  it('knows the last ones by their tokens, in the next process too, which takes the place of the oldest', () => {
    const first = new ReplyCache();
    const sections = new Map<string, Buffer>();
    for (let n = 1; n <= 11; n++) {
      const change = first.add(n, answer(n));
      if (change.kind === 'set') sections.set(change.key, change.bytes);
    }
    const next = new ReplyCache();
    next.restore(sections);
    for (let n = 1; n <= 11; n++) assert.deepEqual(next.find(n), n > 11 - KEPT ? answer(n) : undefined);
    next.add(12, answer(12));
    assert.deepEqual(
      [4, 5, 11, 12].map((n) => next.find(n)?.toString()),
      [undefined, 'answer 5', 'answer 11', 'answer 12'],
    );
    assert.equal(next.find(0), undefined);
  });

  it('passes over what is no answer', () => {
    const ring = new ReplyCache();
    ring.restore(
      new Map([
        ['answer/0', Buffer.alloc(3)],
        ['session/1', Buffer.alloc(16, 1)],
      ]),
    );
    assert.equal(ring.find(0x01010101), undefined);
    assert.deepEqual(ring.all(), []);
  });
});
