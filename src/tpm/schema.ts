// Declaring structures: a schema gives decoder, encoder, type and a plain-data description.
import { TPM_RC, TpmError } from './response-code.js';
import { Reader, Writer } from './wire.js';

/** What a schema looks like, as data: for documentation, printers and test generators. */
export type Shape =
  | {
      readonly kind: 'integer';
      readonly bytes: 1 | 2 | 4 | 8;
      readonly values?: readonly number[];
      /** Besides `values`: first and last number of the ranges that are allowed. */
      readonly ranges?: readonly (readonly [number, number])[];
      /** Of a bit field: the bits that are defined. */
      readonly mask?: number;
    }
  | { readonly kind: 'bytes'; readonly max: number }
  | { readonly kind: 'sized'; readonly of: Shape }
  | { readonly kind: 'list'; readonly of: Shape; readonly max: number; readonly min: number }
  | { readonly kind: 'struct'; readonly fields: readonly (readonly [string, Shape])[] }
  | { readonly kind: 'union'; readonly selector: string; readonly arms: ReadonlyMap<number, Shape> }
  | { readonly kind: 'empty' };

/** One structure of Part 2. `decode` throws {@link TpmError} with a bare code; who calls knows the place and adds it. */
export interface Schema<T> {
  readonly decode: (reader: Reader) => T;
  readonly encode: (writer: Writer, value: T) => void;
  readonly shape: Shape;
}

/** The TypeScript type of a schema's values. */
export type Infer<S> = S extends Schema<infer T> ? T : never;

const fail = (code: number): never => {
  throw new TpmError(code);
};

export const uint8: Schema<number> = {
  decode: (r) => r.uint8(),
  encode: (w, v) => {
    w.uint8(v);
  },
  shape: { kind: 'integer', bytes: 1 },
};
export const uint16: Schema<number> = {
  decode: (r) => r.uint16(),
  encode: (w, v) => {
    w.uint16(v);
  },
  shape: { kind: 'integer', bytes: 2 },
};
export const uint32: Schema<number> = {
  decode: (r) => r.uint32(),
  encode: (w, v) => {
    w.uint32(v);
  },
  shape: { kind: 'integer', bytes: 4 },
};
export const int32: Schema<number> = {
  decode: (r) => r.int32(),
  encode: (w, v) => {
    w.int32(v);
  },
  shape: { kind: 'integer', bytes: 4 },
};
export const uint64: Schema<bigint> = {
  decode: (r) => r.uint64(),
  encode: (w, v) => {
    w.uint64(v);
  },
  shape: { kind: 'integer', bytes: 8 },
};

/** A value of `base` for which `check` holds; otherwise `code`. A lenient reader takes any value. */
export function checked(base: Schema<number>, check: (value: number) => boolean, code: number): Schema<number> {
  return {
    decode: (r) => {
      const value = base.decode(r);
      return check(value) || r.lenient ? value : fail(code);
    },
    encode: base.encode,
    shape: base.shape,
  };
}

/** One of `values`; otherwise `code`. The inferred type is the union of the values. A lenient reader takes any value. */
export function oneOf<const V extends number>(base: Schema<number>, values: readonly V[], code: number): Schema<V> {
  const known = new Set<number>(values);
  return {
    decode: (r) => {
      const value = base.decode(r);
      return known.has(value) || r.lenient ? (value as V) : fail(code);
    },
    encode: base.encode,
    shape: base.shape.kind === 'integer' ? { ...base.shape, values } : base.shape,
  };
}

/** A bit field (`TPMA_*`): `TPM_RC_RESERVED_BITS` if a bit outside `defined` is set. */
export function bits(base: Schema<number>, defined: number): Schema<number> {
  const inverse = ~defined >>> 0;
  const schema = checked(base, (value) => (value & inverse) === 0, TPM_RC.RESERVED_BITS);
  return base.shape.kind === 'integer' ? { ...schema, shape: { ...base.shape, mask: defined } } : schema;
}

/** `TPM2B_*` of plain bytes: a 16-bit size, then at most `max` bytes. `TPM_RC_SIZE` if more. */
export function tpm2b(max: number): Schema<Buffer> {
  return {
    decode: (r) => {
      const size = r.uint16();
      return size > max && !r.lenient ? fail(TPM_RC.SIZE) : r.view(size);
    },
    encode: (w, v) => {
      w.uint16(v.length);
      w.raw(v);
    },
    shape: { kind: 'bytes', max },
  };
}

/** Plain bytes of a fixed length with no size in front. */
export function fixedBytes(length: number): Schema<Buffer> {
  return {
    decode: (r) => r.view(length),
    encode: (w, v) => {
      w.raw(v);
    },
    shape: { kind: 'struct', fields: Array.from({ length }, (_, i) => [i.toString(), uint8.shape] as const) },
  };
}

const emptyShape: Shape = { kind: 'empty' };

/** No bytes at all: the arm of a union whose selector has no data (`TPMS_EMPTY`). */
export const empty: Schema<null> = { decode: () => null, encode: () => undefined, shape: emptyShape };

/** What `inner` decodes; `TPM_RC_SIZE` if that did not take exactly `size` bytes. An error inside the structure comes first. */
function decodeSized<T>(r: Reader, size: number, inner: Schema<T>): T {
  const start = r.offset;
  const value = inner.decode(r);
  return r.offset - start === size ? value : fail(TPM_RC.SIZE);
}

/** `TPM2B_*` of a structure. The size must be exactly the structure's, else `TPM_RC_SIZE`; zero is `TPM_RC_SIZE` too. */
export function sized<T>(inner: Schema<T>): Schema<T> {
  return {
    decode: (r) => {
      const size = r.uint16();
      return size === 0 ? fail(TPM_RC.SIZE) : decodeSized(r, size, inner);
    },
    encode: (w, v) => {
      w.sized(() => {
        inner.encode(w, v);
      });
    },
    shape: { kind: 'sized', of: inner.shape },
  };
}

/** As {@link sized}, but a size of zero is allowed and means `null`. */
export function sizedOrNull<T>(inner: Schema<T>): Schema<T | null> {
  const full = sized(inner);
  return {
    decode: (r) => {
      const size = r.uint16();
      return size === 0 ? null : decodeSized(r, size, inner);
    },
    encode: (w, v) => {
      if (v === null) w.uint16(0);
      else full.encode(w, v);
    },
    shape: full.shape,
  };
}

/** `TPML_*`: a 32-bit count, then at most `max` elements. `TPM_RC_SIZE` if more, or fewer than `min`. */
export function list<T>(element: Schema<T>, max: number, min = 0): Schema<T[]> {
  return {
    decode: (r) => {
      const count = r.uint32();
      if (!r.lenient && (count < min || count > max)) return fail(TPM_RC.SIZE);
      const values: T[] = [];
      for (let i = 0; i < count; i++) values.push(element.decode(r));
      return values;
    },
    encode: (w, v) => {
      w.uint32(v.length);
      for (const value of v) element.encode(w, value);
    },
    shape: { kind: 'list', of: element.shape, max, min },
  };
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the only way to say "a schema of whatever"
type AnySchema = Schema<any>;

/** `TPMU_*`: the schema to use for each value of a selector. Selectors that are not listed are `TPM_RC_SELECTOR`. */
export interface Union<A> {
  readonly arms: A;
}

/** Declares a `TPMU_*`. */
export function union<A extends Readonly<Record<number, AnySchema>>>(arms: A): Union<A> {
  return { arms };
}

/** A field of a structure whose schema depends on the value of an earlier field. */
export interface Select<K extends string, A> {
  readonly selector: K;
  readonly union: Union<A>;
}

/** Declares a field selected by the earlier field `selector`. */
export function select<K extends string, A>(selector: K, of: Union<A>): Select<K, A> {
  return { selector, union: of };
}

type Fields = Readonly<Record<string, AnySchema | Select<string, Readonly<Record<number, AnySchema>>>>>;
type SelectorNames<F> = { [N in keyof F]: F[N] extends Select<infer K, unknown> ? K : never }[keyof F];
type SelectorValues<F> = { [N in keyof F]: F[N] extends Select<string, infer A> ? keyof A : never }[keyof F] & number;
type Plain<F> = { -readonly [N in keyof F as F[N] extends AnySchema ? N : never]: Infer<F[N]> };
type Chosen<F, V extends number> = {
  -readonly [N in keyof F as F[N] extends Select<string, unknown> ? N : never]: F[N] extends Select<string, infer A>
    ? V extends keyof A
      ? Infer<A[V]>
      : never
    : never;
};
type Flat<T> = { [K in keyof T]: T[K] };
/** The values of a structure: a plain object, or a union that narrows on its selector. */
export type InferStruct<F> = [SelectorNames<F>] extends [never]
  ? Flat<Plain<F>>
  : SelectorValues<F> extends infer V
    ? V extends number
      ? Flat<Omit<Plain<F>, SelectorNames<F>> & Record<SelectorNames<F> & string, V> & Chosen<F, V>>
      : never
    : never;

type Values = Record<string, unknown>;
interface FieldCodec {
  readonly name: string;
  readonly decode: (reader: Reader, soFar: Values) => unknown;
  readonly encode: (writer: Writer, value: unknown, all: Values) => void;
  readonly shape: Shape;
}

function fieldCodec(name: string, field: Fields[string]): FieldCodec {
  if (!('selector' in field)) {
    return { name, decode: (r) => field.decode(r) as unknown, encode: field.encode, shape: field.shape };
  }
  const arms = new Map<number, AnySchema>(Object.entries(field.union.arms).map(([k, s]) => [Number(k), s]));
  const { selector } = field;
  const arm = (values: Values): AnySchema => arms.get(values[selector] as number) ?? fail(TPM_RC.SELECTOR);
  return {
    name,
    decode: (r, soFar) => arm(soFar).decode(r) as unknown,
    encode: (w, value, all) => {
      arm(all).encode(w, value);
    },
    shape: { kind: 'union', selector, arms: new Map([...arms].map(([k, s]) => [k, s.shape])) },
  };
}

/** `TPMS_*` and `TPMT_*`: fields in order. */
export function struct<F extends Fields>(fields: F): Schema<InferStruct<F>> {
  const codecs = Object.entries(fields).map(([name, field]) => fieldCodec(name, field));
  return {
    decode: (r) => {
      const value: Values = {};
      for (const codec of codecs) value[codec.name] = codec.decode(r, value);
      return value as InferStruct<F>;
    },
    encode: (w, v) => {
      const values = v as Values;
      for (const codec of codecs) codec.encode(w, values[codec.name], values);
    },
    shape: { kind: 'struct', fields: codecs.map((codec) => [codec.name, codec.shape] as const) },
  };
}

/** The canonical bytes of `value`. */
export function encode<T>(schema: Schema<T>, value: T): Buffer {
  const writer = new Writer();
  schema.encode(writer, value);
  return writer.finish();
}

/** The value that `bytes` hold, all of them: `TPM_RC_SIZE` if some are left over. See {@link Reader} for `lenient`. */
export function decode<T>(schema: Schema<T>, bytes: Buffer, lenient = false): T {
  const reader = new Reader(bytes, lenient);
  const value = schema.decode(reader);
  return reader.remaining === 0 ? value : fail(TPM_RC.SIZE);
}
