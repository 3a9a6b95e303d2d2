// A connection that carries TPM commands and nothing else.
import { errorResponse } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';
import type { Channel } from './channel.js';
import { serve, type Connection, type Protocol } from './connection.js';
import { feedFrames, noFrame } from './frame.js';
import type { GuestLink } from './guest-link.js';

/** Serves TPM commands. `onCommand` is told of each. */
export function serveData(channel: Channel, link: GuestLink, onCommand: () => void = () => undefined): Connection {
  return serve(channel, link, dataProtocol(link, onCommand));
}

/** How TPM commands are answered. */
export function dataProtocol(link: GuestLink, onCommand: () => void): Protocol<Buffer> {
  let state = noFrame;
  return {
    feed: (input) => {
      const step = feedFrames(state, input);
      state = step.state;
      return { requests: step.frames, partial: state.length > 0, violation: step.violation };
    },
    sizeOf: (frame) => frame.length,
    answer: (frame, token, onEffect) => {
      onCommand();
      return link.tpm.execute(frame, link.locality, token, onEffect);
    },
    interrupted: (_frame, token) => interruptedCommand(link, token),
  };
}

/** The response to a command over which a daemon died. If it had no effect it can be sent again. */
export function interruptedCommand({ tpm }: GuestLink, token: number): Buffer {
  return tpm.answered(token) ?? errorResponse(TPM_RC.RETRY);
}
