// What a guest is served on besides its own UNIX sockets: the same for who asks for it and for the store.
import * as v from 'valibot';

/** Most lines of one kind that a guest can have. */
const MAX_LINES = 8;
const MAX_PATH = 4095;
/** `sun_path` takes 108 bytes, with the zero at its end. */
const MAX_SOCKET_PATH = 107;

/** The next port is used as well. */
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65534));
const paths = (maxBytes: number) =>
  v.pipe(v.array(v.pipe(v.string(), v.regex(/^\/[^\0\n]+$/, 'Expected an absolute path'), v.maxBytes(maxBytes))), v.maxLength(MAX_LINES));

/** What a guest is served on besides its own UNIX sockets. */
export const guestListen = v.strictObject({
  tcp: v.optional(v.pipe(port, v.description('data port on 127.0.0.1; the control channel is on the next one'))),
  mssim: v.optional(v.pipe(port, v.description("command port of the simulator's protocol; the platform port is the next one"))),
  serial: v.optional(v.pipe(paths(MAX_PATH), v.description('absolute paths of ttys'))),
  consoleSockets: v.optional(v.pipe(paths(MAX_SOCKET_PATH), v.description('absolute paths of UNIX sockets on which a console listens'))),
});

/** See {@link guestListen}. */
export type GuestListen = v.InferOutput<typeof guestListen>;
