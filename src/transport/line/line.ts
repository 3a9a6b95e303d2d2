// A line: one byte stream to a guest that comes and goes, such as a tty or a console's socket.

/** An open line. */
export interface Line {
  /** The next bytes; undefined once the other side is gone or the line was closed. One call at a time. */
  read(): Promise<Buffer | undefined>;
  /** Resolves when all bytes are on their way. Rejects when the line ends before. */
  write(bytes: Buffer): Promise<void>;
  /** Ends a read and a write that wait. Never rejects. */
  close(): Promise<void>;
}

/** What kind of line is at a path. */
export type LineKind = 'serial' | 'console-socket';

/** Where a line can be opened, again and again. */
export interface LinePlace {
  readonly kind: LineKind;
  readonly path: string;
  /** Rejects with an error whose message says why there is no line now. */
  open(): Promise<Line>;
}
