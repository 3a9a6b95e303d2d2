// TPM 2.0 Library Part 3: how a command is declared. One declaration serves the guest side (decode the request,
// encode the response) and the chip side (encode the request, decode the response).
import { MAX_COMMAND_SIZE } from './constants/index.js';
import { atHandle, atParameter, TPM_RC, TpmError } from './response-code.js';
import type { Infer, Schema, Shape } from './schema.js';
import { Reader, Writer } from './wire.js';

/** Which authorization a handle needs (Part 1, 19.2). */
export type AuthRole = 'USER' | 'ADMIN' | 'DUP';

/** A handle in a command's handle area, with the authorization role it needs, if any. */
export interface HandleField {
  readonly schema: Schema<number>;
  readonly role?: AuthRole;
}

/** A handle that needs USER authorization. */
export const user = (schema: Schema<number>): HandleField => ({ schema, role: 'USER' });
/** A handle that needs ADMIN authorization. */
export const admin = (schema: Schema<number>): HandleField => ({ schema, role: 'ADMIN' });
/** A handle that needs DUP authorization. */
export const dup = (schema: Schema<number>): HandleField => ({ schema, role: 'DUP' });
/** A handle that needs no authorization. */
export const noAuth = (schema: Schema<number>): HandleField => ({ schema });

type HandleFields = Readonly<Record<string, HandleField>>;
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the only way to say "schemas of whatever"
type ParameterFields = Readonly<Record<string, Schema<any>>>;
type Flat<T> = { [K in keyof T]: T[K] };
type Parameters<F> = { -readonly [N in keyof F]: Infer<F[N]> };
type Handles<F> = { -readonly [N in keyof F]: number };

/** The part of a declaration that its author writes; what is left out is empty or false. */
export interface CommandSpec<H, I, O, R> {
  /** Section of Part 3, e.g. `20.2`; of a command of our own, section of docs/aware-guests.md, e.g. `V.2`. */
  readonly section: string;
  readonly handles?: H;
  readonly in?: I;
  readonly out?: O;
  /** The handle in the response, e.g. `{ objectHandle: TPM_HANDLE }`; at most one. */
  readonly outHandle?: R;
  /** TPMA_CC `nv`: the command may write non-volatile memory. */
  readonly nv?: boolean;
  /** TPMA_CC `extensive`: the command may flush many contexts. */
  readonly extensive?: boolean;
  /** TPMA_CC `flushed`: the context of the first handle is flushed on success. */
  readonly flushed?: boolean;
  /** Callers may pad the parameter area, with bytes that mean nothing, to the size of the largest command less this. */
  readonly paddedBelow?: number;
  /** The command permits no sessions of any kind (tag must be `TPM_ST_NO_SESSIONS`, else `TPM_RC_AUTH_CONTEXT`). */
  readonly noSessions?: boolean;
}

/** One command of Part 3. */
export interface Command<H = HandleFields, I = ParameterFields, O = ParameterFields, R = Readonly<Record<string, Schema<number>>>> {
  readonly code: number;
  /** Name without the `TPM2_` prefix. */
  readonly name: string;
  readonly section: string;
  readonly handles: H;
  readonly in: I;
  readonly out: O;
  readonly outHandle: R;
  readonly nv: boolean;
  readonly extensive: boolean;
  readonly flushed: boolean;
  readonly noSessions: boolean;
  readonly paddedBelow: number | undefined;
  readonly handleList: readonly (readonly [string, HandleField])[];
  readonly inList: readonly (readonly [string, Schema<unknown>])[];
  readonly outList: readonly (readonly [string, Schema<unknown>])[];
  readonly outHandleName: string | undefined;
  /** The first command parameter is a sized buffer, so a `decrypt` session may encrypt it. */
  readonly decryptable: boolean;
  /** The first response parameter is a sized buffer, so an `encrypt` session may encrypt it. */
  readonly encryptable: boolean;
}

/** Any declaration of a command. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the only way to say "a command of whatever"
export type AnyCommand = Command<any, any, any, any>;

/** What a handler gets: handles and parameters by name. */
export type Request<C> = C extends Command<infer H, infer I, infer _O, infer _R> ? Flat<Handles<H> & Parameters<I>> : never;
/** What a handler returns: the response handle, if any, and the response parameters by name. */
export type Response<C> = C extends Command<infer _H, infer _I, infer O, infer R> ? Flat<Handles<R> & Parameters<O>> : never;

const isSizedBuffer = (shape: Shape | undefined): boolean => shape?.kind === 'bytes' || shape?.kind === 'sized';

/** Declares a command. */
export function command<
  H extends HandleFields = Record<never, never>,
  I extends ParameterFields = Record<never, never>,
  O extends ParameterFields = Record<never, never>,
  R extends Readonly<Record<string, Schema<number>>> = Record<never, never>,
>(code: number, name: string, spec: CommandSpec<H, I, O, R>): Command<H, I, O, R> {
  const inList = Object.entries(spec.in ?? {}) as [string, Schema<unknown>][];
  const outList = Object.entries(spec.out ?? {}) as [string, Schema<unknown>][];
  return {
    code,
    name,
    section: spec.section,
    handles: spec.handles ?? ({} as H),
    in: spec.in ?? ({} as I),
    out: spec.out ?? ({} as O),
    outHandle: spec.outHandle ?? ({} as R),
    nv: spec.nv ?? false,
    extensive: spec.extensive ?? false,
    flushed: spec.flushed ?? false,
    noSessions: spec.noSessions ?? false,
    paddedBelow: spec.paddedBelow,
    handleList: Object.entries(spec.handles ?? {}),
    inList,
    outList,
    outHandleName: Object.keys(spec.outHandle ?? {})[0],
    decryptable: isSizedBuffer(inList[0]?.[1].shape),
    encryptable: isSizedBuffer(outList[0]?.[1].shape),
  };
}

/** Bit of a command code: the command is a vendor's. */
const VENDOR = 0x20000000;

/** Whether a command is one of our own, with the vendor bit or without it. */
export function isOwnCommand({ section }: Pick<Command, 'section'>): boolean {
  return section.startsWith('V.');
}

/** A command of our own under its code without the vendor bit, for callers whose operating system lets no command with that bit through. */
export function withoutVendorBit<C extends Pick<Command, 'code'>>(of: C): C {
  return { ...of, code: of.code & ~VENDOR };
}

/** `TPMA_CC` of a command (Part 2, 8.9). */
export function commandAttributes(of: Command): number {
  const flag = (on: boolean, bit: number): number => (on ? 1 << bit : 0);
  const rHandle = of.outHandleName !== undefined;
  return (
    (of.code & 0xffff) |
    flag(of.nv, 22) |
    flag(of.extensive, 23) |
    flag(of.flushed, 24) |
    (of.handleList.length << 25) |
    flag(rHandle, 28) |
    flag((of.code & VENDOR) !== 0, 29)
  );
}

/** Decodes the handle area. Errors carry the handle's number. */
export function decodeHandles(of: Command, reader: Reader): number[] {
  return of.handleList.map(([, field], i) =>
    placed(
      () => field.schema.decode(reader),
      (code) => atHandle(code, i + 1),
    ),
  );
}

/**
 * Decodes the parameter area, which must be used up (`TPM_RC_SIZE`) unless it is padded as the command allows. Errors carry the parameter's
 * number. `largest` is TPM_PT_MAX_COMMAND_SIZE as the caller was told.
 */
export function decodeParameters(of: Command, bytes: Buffer, largest = MAX_COMMAND_SIZE): Record<string, unknown> {
  const reader = new Reader(bytes);
  const values: Record<string, unknown> = {};
  of.inList.forEach(([name, schema], i) => {
    values[name] = placed(
      () => schema.decode(reader),
      (code) => atParameter(code, i + 1),
    );
  });
  const isPadded = of.paddedBelow !== undefined && bytes.length === largest - of.paddedBelow;
  if (reader.remaining > 0 && !isPadded) throw new TpmError(TPM_RC.SIZE);
  return values;
}

function placed<T>(decode: () => T, place: (code: number) => number): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof TpmError) throw new TpmError(place(error.code));
    throw error;
  }
}

/** Encodes parameters, of a request (`inList`) or a response (`outList`). */
export function encodeParameters(fields: Command['inList'], values: Readonly<Record<string, unknown>>): Buffer {
  const writer = new Writer();
  for (const [name, schema] of fields) schema.encode(writer, values[name]);
  return writer.finish();
}

/** Decodes a chip's response parameters; leniently, for a chip may know more algorithms than we do. */
export function decodeResponseParameters(of: Command, bytes: Buffer): Record<string, unknown> {
  const reader = new Reader(bytes, true);
  const values: Record<string, unknown> = {};
  for (const [name, schema] of of.outList) values[name] = schema.decode(reader);
  return values;
}
