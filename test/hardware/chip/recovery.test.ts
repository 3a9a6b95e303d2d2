// Every sequence of events, in which the world answers as it can: what was asked for happens at some time, or fails.
import assert from 'node:assert/strict';
import { CONNECTED, OPENING, stepLink, type LinkAction, type LinkEvent, type LinkState } from '../../../src/hardware/chip/recovery.js';

const EVENTS: readonly LinkEvent[] = [
  'connection-lost',
  'handles-lost',
  'diagnosed',
  'connected',
  'restored',
  'not-restored',
  'probe-due',
  'probe-well',
  'probe-ill',
  'closing',
];
const PHASES = ['well', 'recovering', 'ill', 'closed'] as const;

/** The world: connections that are open, and what was asked for and has not happened. */
interface World {
  readonly state: LinkState;
  readonly open: boolean;
  readonly probeOpen: boolean;
  readonly restoring: boolean;
  readonly awaiting: boolean;
  /** What is known of handles and sessions is right. */
  readonly knowsHandles: boolean;
  readonly closed: boolean;
}

function act(world: World, action: LinkAction): World {
  switch (action) {
    case 'disconnect':
      return { ...world, open: false };
    case 'forget':
      return { ...world, knowsHandles: true };
    case 'restore':
      assert.ok(!world.restoring, 'one restores at a time');
      return { ...world, restoring: true };
    case 'await-probe':
      assert.ok(!world.awaiting && !world.probeOpen, 'one probe at a time');
      return { ...world, awaiting: true };
    case 'probe':
      assert.ok(!world.probeOpen && !world.open, 'a probe has the only connection');
      return { ...world, probeOpen: true };
    case 'adopt-probe':
      assert.ok(world.probeOpen && !world.open);
      return { ...world, open: true, probeOpen: false };
    case 'drop-probe':
      assert.ok(world.probeOpen);
      return { ...world, probeOpen: false };
  }
}

/** What the world does by itself with an event, before the machine hears of it; undefined if it cannot happen. */
function happen(world: World, event: LinkEvent): World | undefined {
  switch (event) {
    case 'connection-lost':
    case 'handles-lost':
      return world.open ? { ...world, knowsHandles: false } : undefined;
    case 'diagnosed':
      return world.open && !world.restoring ? world : undefined;
    case 'connected':
      return world.restoring && !world.open ? { ...world, open: true } : undefined;
    case 'restored':
      return world.restoring && (world.open || world.closed) ? { ...world, restoring: false } : undefined;
    case 'not-restored':
      return world.restoring ? { ...world, restoring: false } : undefined;
    case 'probe-due':
      return world.awaiting ? { ...world, awaiting: false } : undefined;
    case 'probe-well':
    case 'probe-ill':
      return world.probeOpen ? world : undefined;
    case 'closing':
      return world.closed ? undefined : { ...world, closed: true };
  }
}

function check(world: World): void {
  const { state, open, probeOpen, restoring, awaiting, knowsHandles, closed } = world;
  assert.ok(!(open && probeOpen), 'never two connections');
  assert.equal(state.connected, open, 'it knows whether there is a connection');
  assert.equal(state.probing, probeOpen);
  assert.equal(state.phase === 'closed', closed);
  if (state.phase === 'well') assert.ok(open && knowsHandles && !restoring, 'commands are sent on a connection, to handles that are there');
  if (state.phase === 'recovering') assert.ok(restoring, 'somebody is at work');
  if (state.phase === 'ill') assert.ok(!open && (awaiting || probeOpen), 'the chip is left alone, and looked after');
  if (state.phase === 'closed') assert.ok(!open, 'nothing is open after the end, but a probe that ends');
}

interface Reached {
  readonly world: World;
  /** Where one more event leads; keys of {@link explore}'s result. */
  readonly next: readonly string[];
}

const BEGINNING: World = {
  state: OPENING,
  open: false,
  probeOpen: false,
  restoring: true,
  awaiting: false,
  knowsHandles: true,
  closed: false,
};

/** All that any sequence of events leads to. */
function explore(): Map<string, Reached> {
  const seen = new Map<string, Reached>();
  const waiting: World[] = [BEGINNING];
  for (let world = waiting.pop(); world !== undefined; world = waiting.pop()) {
    const key = JSON.stringify(world);
    if (seen.has(key)) continue;
    const after = EVENTS.map((event) => follow(world, event)).filter((next) => next !== undefined);
    seen.set(key, { world, next: after.map((next) => JSON.stringify(next)) });
    waiting.push(...after);
  }
  return seen;
}

/** What comes of an event; undefined if it cannot happen. */
function follow(world: World, event: LinkEvent): World | undefined {
  const after = happen(world, event);
  if (after === undefined) return undefined;
  const { state, actions } = stepLink(after.state, event);
  return actions.reduce(act, { ...after, state });
}

/** The keys from which some sequence of events leads to a world that is `good`. */
function leadingTo(seen: ReadonlyMap<string, Reached>, good: (world: World) => boolean): Set<string> {
  const leading = new Set([...seen].filter(([, { world }]) => good(world)).map(([key]) => key));
  for (let before = -1; before !== leading.size;) {
    before = leading.size;
    for (const [key, { next }] of seen) if (next.some((one) => leading.has(one))) leading.add(key);
  }
  return leading;
}

describe('the state machine of the connection to the chip', () => {
  it('keeps what it promises in every state that can be reached', () => {
    const seen = explore();
    for (const { world } of seen.values()) check(world);
    const phases = new Set([...seen.values()].map(({ world }) => world.state.phase));
    assert.deepEqual([...phases].sort(), [...PHASES].sort(), 'all phases can be reached');
    assert.equal(seen.size, 9, 'states of machine and world together');
  });

  it('is stuck nowhere: a chip can always come to be used again, and at the end nothing is open', () => {
    const seen = explore();
    const usable = leadingTo(seen, ({ state }) => state.phase === 'well');
    const ended = leadingTo(seen, ({ closed, open, probeOpen }) => closed && !open && !probeOpen);
    for (const [key, { world }] of seen) {
      assert.equal(usable.has(key), !world.closed, key);
      assert.ok(ended.has(key), key);
    }
  });

  it('passes over what cannot be there, in every state', () => {
    for (const phase of PHASES) {
      for (const connected of [false, true]) {
        for (const probing of [false, true]) {
          const state = { phase, connected: connected && phase !== 'closed', probing };
          for (const event of EVENTS) {
            const { state: next, actions } = stepLink(state, event);
            assert.ok(PHASES.includes(next.phase));
            if (phase === 'closed') assert.equal(next.phase, 'closed', 'the end is the end');
            if (event === 'closing') assert.deepEqual([next.phase, next.connected], ['closed', false]);
            if (next.phase === 'ill' && phase !== 'ill') assert.ok(actions.includes('await-probe'));
            if (event === 'connection-lost' && phase === 'well') assert.deepEqual(actions, ['disconnect', 'forget', 'restore']);
          }
        }
      }
    }
  });

  it('comes back from everything but the end', () => {
    const recoveries: readonly (readonly LinkEvent[])[] = [
      ['connection-lost', 'connected', 'restored'],
      ['connection-lost', 'connected', 'connection-lost', 'connected', 'restored'],
      ['handles-lost', 'restored'],
      ['handles-lost', 'connection-lost', 'not-restored', 'probe-due', 'probe-ill', 'probe-due', 'probe-well'],
      ['diagnosed', 'probe-due', 'probe-well'],
    ];
    for (const events of recoveries) {
      const end = events.reduce((state, event) => stepLink(state, event).state, CONNECTED);
      assert.deepEqual(end, CONNECTED, events.join());
    }
    assert.deepEqual(stepLink(stepLink(OPENING, 'connected').state, 'restored').state, CONNECTED);
  });
});
