// The life of the connection to a chip as a state machine: what happens, and what is to be done then. No input or output here.

/** How it stands with the connection. */
export interface LinkState {
  /**
   * `well`: commands are sent. `recovering`: who found that something is lost makes the chip usable again, and nothing else is sent.
   * `ill`: the chip is left alone, and probed in the background on connections of the probes' own. `closed`: for good.
   */
  readonly phase: 'well' | 'recovering' | 'ill' | 'closed';
  /** There is a connection, other than a probe's. */
  readonly connected: boolean;
  /** A probe is under way. */
  readonly probing: boolean;
}

/** What happens. */
export type LinkEvent =
  /** A command got no answer, or no connection could be made. */
  | 'connection-lost'
  /** The chip answers, but objects and sessions in it are gone. */
  | 'handles-lost'
  /** The chip answers, but is not the right one, or says that it has failed. */
  | 'diagnosed'
  /** A connection was made, at the beginning or while recovering. */
  | 'connected'
  | 'restored'
  | 'not-restored'
  | 'probe-due'
  | 'probe-well'
  | 'probe-ill'
  | 'closing';

/** What is to be done, in this order. */
export type LinkAction =
  /** Close the connection. */
  | 'disconnect'
  /** Handles and sessions of the chip are void. */
  | 'forget'
  /** Connect if need be, start the chip up, and make sure that it is the right one; then `restored` or `not-restored` happens. */
  | 'restore'
  /** Have `probe-due` happen after a while. */
  | 'await-probe'
  /** Try all that on a new connection; then `probe-well` or `probe-ill` happens. */
  | 'probe'
  /** The probe's connection is the connection. */
  | 'adopt-probe'
  /** Close the probe's connection. */
  | 'drop-probe';

/** What comes of an event. */
export interface LinkStep {
  readonly state: LinkState;
  readonly actions: readonly LinkAction[];
}

/** With a connection, and nothing wrong. */
export const CONNECTED: LinkState = { phase: 'well', connected: true, probing: false };
/** At the beginning: without a connection, and somebody is at work to make the chip usable. */
export const OPENING: LinkState = { phase: 'recovering', connected: false, probing: false };

/** What comes of `event` in `state`. An event that cannot be there is passed over. */
export function stepLink(state: LinkState, event: LinkEvent): LinkStep {
  return STEPS[state.phase](state, event) ?? { state, actions: [] };
}

const STEPS: Readonly<Record<LinkState['phase'], (state: LinkState, event: LinkEvent) => LinkStep | undefined>> = {
  well: (state, event) => {
    switch (event) {
      case 'connection-lost':
        return { state: { ...state, phase: 'recovering', connected: false }, actions: ['disconnect', 'forget', 'restore'] };
      case 'handles-lost':
        return { state: { ...state, phase: 'recovering' }, actions: ['forget', 'restore'] };
      case 'diagnosed':
        return fallIll(state);
      case 'closing':
        return close(state);
      default:
        return undefined;
    }
  },
  recovering: (state, event) => {
    switch (event) {
      case 'connection-lost':
        return { state: { ...state, connected: false }, actions: ['disconnect', 'forget'] };
      case 'handles-lost':
        return { state, actions: ['forget'] };
      case 'connected':
        return { state: { ...state, connected: true }, actions: [] };
      case 'restored':
        return state.connected ? { state: { ...state, phase: 'well' }, actions: [] } : fallIll(state);
      case 'not-restored':
        return fallIll(state);
      case 'closing':
        return close(state);
      default:
        return undefined;
    }
  },
  ill: (state, event) => {
    switch (event) {
      case 'probe-due':
        return state.probing ? undefined : { state: { ...state, probing: true }, actions: ['probe'] };
      case 'probe-well':
        return state.probing ? { state: CONNECTED, actions: ['adopt-probe'] } : undefined;
      case 'probe-ill':
        return state.probing ? { state: { ...state, probing: false }, actions: ['drop-probe', 'await-probe'] } : undefined;
      case 'closing':
        return close(state);
      default:
        return undefined;
    }
  },
  closed: (state, event) => {
    switch (event) {
      case 'connected':
        return { state, actions: ['disconnect'] };
      case 'probe-well':
      case 'probe-ill':
        return state.probing ? { state: { ...state, probing: false }, actions: ['drop-probe'] } : undefined;
      default:
        return undefined;
    }
  },
};

function fallIll(state: LinkState): LinkStep {
  return { state: { ...state, phase: 'ill', connected: false }, actions: ['forget', 'disconnect', 'await-probe'] };
}

function close(state: LinkState): LinkStep {
  return { state: { ...state, phase: 'closed', connected: false }, actions: ['disconnect'] };
}
