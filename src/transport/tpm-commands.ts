// A connection that carries TPM commands and nothing else.
import { errorResponse } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';
import { uint32Bytes } from '../tpm/wire.js';
import type { Channel } from './channel.js';
import { serve, type Connection, type Protocol } from './connection.js';
import { feedFrames, noFrame, type FramedCommand } from './frame.js';
import type { GuestLink } from './guest-link.js';

const MAX_LOCALITY = 4;

/** Serves TPM commands. `onCommand` is told of each. */
export function serveData(channel: Channel, link: GuestLink, onCommand: () => void = () => undefined): Connection {
  return serve(channel, link, dataProtocol(link, onCommand));
}

/**
 * As {@link serveData}, for a data port: a command may have the simulator's prefix, as with swtpm. Where a machine hands on what its
 * guest writes it may not: the guest would choose its locality.
 */
export function serveDataPort(channel: Channel, link: GuestLink): Connection {
  return serve(
    channel,
    link,
    dataProtocol(link, () => undefined, true),
  );
}

/** How TPM commands are answered. */
export function dataProtocol(link: GuestLink, onCommand: () => void, mayHavePrefix = false): Protocol<FramedCommand> {
  let state = noFrame;
  return {
    feed: (input) => {
      const step = feedFrames(state, input, mayHavePrefix);
      state = step.state;
      return { requests: step.commands, partial: state.length > 0, violation: step.violation };
    },
    sizeOf: ({ size }) => size,
    answer: async (command, token, onEffect) => {
      onCommand();
      return framed(command, await execute(link, command, token, onEffect));
    },
    interrupted: (command, token) => framed(command, interruptedCommand(link, token)),
  };
}

async function execute(link: GuestLink, { frame, locality }: FramedCommand, token: number, onEffect: () => void): Promise<Buffer> {
  if (locality === undefined) return link.tpm.execute(frame, link.locality, token, onEffect);
  if (locality > MAX_LOCALITY) return errorResponse(TPM_RC.LOCALITY);
  link.locality = locality;
  return link.tpm.execute(frame, locality, token, onEffect);
}

/** The response to a command with a prefix stands between its size and a zero. */
function framed({ locality }: FramedCommand, response: Buffer): Buffer {
  return locality === undefined ? response : Buffer.concat([uint32Bytes(response.length), response, uint32Bytes(0)]);
}

/** The response to a command over which a daemon died. If it had no effect it can be sent again. */
export function interruptedCommand({ tpm }: GuestLink, token: number): Buffer {
  return tpm.answered(token) ?? errorResponse(TPM_RC.RETRY);
}
