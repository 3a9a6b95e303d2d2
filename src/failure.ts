// Errors that reach a user: what was wanted, why it did not happen, what to do.

/** Exit codes of the command line, which every failure maps to. */
export const EXIT = { done: 0, failed: 1, usage: 2, refused: 3, unreachable: 4, unsupported: 5 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The parts of a {@link Failure}; `hint` may be empty where there is nothing to do. */
export interface FailureParts {
  /** Stable machine code in snake case, e.g. `guest_exists`; programs test this one, the rest is for people. */
  readonly code: string;
  readonly what: string;
  readonly why: string;
  readonly hint: string;
  readonly exit: ExitCode;
}

/** An error with all that a user needs; its message is the line that the command line prints. */
export class Failure extends Error implements FailureParts {
  override readonly name: string = 'Failure';
  readonly code: string;
  readonly what: string;
  readonly why: string;
  readonly hint: string;
  readonly exit: ExitCode;

  constructor(parts: FailureParts, options?: ErrorOptions) {
    super(failureLine(parts), options);
    this.code = parts.code;
    this.what = parts.what;
    this.why = parts.why;
    this.hint = parts.hint;
    this.exit = parts.exit;
  }
}

/** `<what> : <why> (<what to do>)`, on one line. */
export function failureLine(parts: Pick<FailureParts, 'what' | 'why' | 'hint'>): string {
  const line = `${parts.what} : ${parts.why}${parts.hint === '' ? '' : ` (${parts.hint})`}`;
  return line.replaceAll(/\s*[\r\n]+\s*/g, ' ');
}

/** The text of anything that was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system error code of what was thrown, e.g. `ENOENT`, if it has one. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
