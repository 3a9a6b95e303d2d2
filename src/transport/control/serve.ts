// swtpm control channel: one connection.
import type { Channel } from '../channel.js';
import { serve, type Connection, type Protocol } from '../connection.js';
import { CONTROL_RESULT, controlCommand, controlResult } from './commands.js';
import type { ControlSession } from './session.js';
import { feedControl, noControl, owesRest, type ControlRequest } from './stream.js';

const PADDING_MASK = 0xff;

/** Serves control requests. Descriptors may come on it with `withDescriptors`. */
export function serveControl(channel: Channel, session: ControlSession, withDescriptors: boolean): Connection {
  return serve(channel, session.link, controlProtocol(channel, session, withDescriptors));
}

/** How control requests are answered. It goes on with what the note of the channel's exchange says. */
export function controlProtocol(channel: Channel, session: ControlSession, withDescriptors: boolean): Protocol<ControlRequest> {
  let state = { ...noControl, padding: channel.exchange.note & PADDING_MASK };
  let { padding } = state;
  session.onNote = (note) => {
    channel.exchange.note = note | padding;
  };
  return {
    feed: (bytes) => {
      const step = feedControl(state, bytes, controlCommand);
      state = step.state;
      return { requests: step.requests, partial: owesRest(state), violation: step.violation };
    },
    sizeOf: ({ size }) => size,
    ready: () => session.wait(),
    answer: (request) => runControl(session, request),
    interrupted: ({ number, body }) =>
      controlCommand(number)?.repeatable?.(body) === true ? undefined : controlResult(CONTROL_RESULT.fail),
    noteAfter: ({ number }) => {
      padding = controlCommand(number)?.padding ?? 0;
      return session.note | padding;
    },
    done: (ending) => session.end(ending),
    takeDescriptors: withDescriptors
      ? (fds) => {
          session.receive(fds);
        }
      : undefined,
  };
}

async function runControl(session: ControlSession, request: ControlRequest): Promise<Buffer> {
  const { link } = session;
  const command = controlCommand(request.number);
  if (command === undefined) return controlResult(CONTROL_RESULT.badOrdinal);
  try {
    session.begin();
    const response = await command.run(session, request.body);
    link.remember();
    return response;
  } catch (error) {
    link.onDefect(error);
    return controlResult(CONTROL_RESULT.fail);
  }
}
