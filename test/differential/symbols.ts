// Values that each TPM has its own of: handles, Names, blobs, tickets, nonces. A step names them, each side looks up its own.

/** What a side remembers of a successful command. */
export interface Saved {
  readonly handle: number | undefined;
  readonly out: Readonly<Record<string, unknown>>;
}

/** A step refers to something that no earlier step has made: the shrinker has taken that step out. */
export class MissingSymbol extends Error {}

/** The symbols of one side. */
export class SymbolTable {
  private readonly saved = new Map<string, Saved>();

  set(symbol: string, saved: Saved): void {
    this.saved.set(symbol, saved);
  }

  /** Throws {@link MissingSymbol}. */
  get(symbol: string): Saved {
    const saved = this.saved.get(symbol);
    if (saved === undefined) throw new MissingSymbol(symbol);
    return saved;
  }
}

/** A value that is computed for each side from what the side remembers; `text` is how it is printed. */
export class Symbolic<T = unknown> {
  readonly text: string;
  readonly of: (symbols: SymbolTable) => T;

  constructor(text: string, of: (symbols: SymbolTable) => T) {
    this.text = text;
    this.of = of;
  }
}

/** Handle that the symbol's command returned. */
export function handleOf(symbol: string): Symbolic<number> {
  return new Symbolic(symbol, (symbols) => {
    const { handle } = symbols.get(symbol);
    if (handle === undefined) throw new MissingSymbol(`${symbol} has no handle`);
    return handle;
  });
}

/** An output parameter of the symbol's command. */
export function outputOf<T>(symbol: string, field: string): Symbolic<T> {
  return new Symbolic(`${symbol}.${field}`, (symbols) => {
    const { out } = symbols.get(symbol);
    if (!(field in out)) throw new MissingSymbol(`${symbol} has no ${field}`);
    return out[field] as T;
  });
}

/** Something made of an output. */
export function derived<T, U>(from: Symbolic<T>, how: string, make: (value: T) => U): Symbolic<U> {
  return new Symbolic(`${how}(${from.text})`, (symbols) => make(from.of(symbols)));
}

/** The value with every {@link Symbolic} in it replaced by this side's. */
export function resolve(value: unknown, symbols: SymbolTable): unknown {
  if (value instanceof Symbolic) return value.of(symbols);
  if (value === null || typeof value !== 'object' || Buffer.isBuffer(value)) return value;
  if (Array.isArray(value)) return value.map((element) => resolve(element, symbols));
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, resolve(element, symbols)]));
}

/** A value for people, symbols by their text. */
export function show(value: unknown): string {
  if (value instanceof Symbolic) return value.text;
  if (Buffer.isBuffer(value)) return value.length === 0 ? "''" : `h'${value.toString('hex')}'`;
  if (typeof value === 'number') return value > 9 ? `0x${value.toString(16)}` : value.toString();
  if (typeof value === 'bigint') return `${value.toString()}n`;
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  if (value !== null && typeof value === 'object') {
    return `{ ${Object.entries(value)
      .map(([key, element]) => `${key}: ${show(element)}`)
      .join(', ')} }`;
  }
  return String(value);
}
