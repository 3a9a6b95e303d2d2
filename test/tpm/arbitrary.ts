// Arbitrary canonical bytes of any structure or command, driven by the shapes of the schemas.
import fc from 'fast-check';
import type { Command } from '../../src/tpm/command.js';
import type { Shape } from '../../src/tpm/schema.js';

type Integer = Extract<Shape, { kind: 'integer' }>;
type Struct = Extract<Shape, { kind: 'struct' }>;
type Union = Extract<Shape, { kind: 'union' }>;

/** Buffers and lists stay below this, so that whole commands fit into a TPM's input buffer. */
const LONGEST = 80;
const MOST = 4;

const concat = (parts: readonly Buffer[]): Buffer => Buffer.concat(parts);

function integerBytes(value: number | bigint, bytes: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)));
  return buffer.subarray(8 - bytes);
}

function arbitraryInteger(shape: Integer): fc.Arbitrary<Buffer> {
  const { values = [], ranges = [], mask, bytes } = shape;
  const top = 256 ** bytes - 1;
  if (mask !== undefined) {
    return fc.integer({ min: 0, max: top }).map((value) => integerBytes((value & mask) >>> 0, bytes));
  }
  if (values.length > 0 || ranges.length > 0) {
    const choices = [
      ...(values.length > 0 ? [fc.constantFrom(...values)] : []),
      ...ranges.map(([min, max]) => fc.oneof(fc.constantFrom(min, max), fc.integer({ min, max }))),
    ];
    return fc.oneof(...choices).map((value) => integerBytes(value, bytes));
  }
  return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => Buffer.from(value));
}

function arbitraryBytes(length: number): fc.Arbitrary<Buffer> {
  return fc.uint8Array({ minLength: length, maxLength: length }).map((value) => Buffer.from(value));
}

function arbitraryStruct({ fields }: Struct): fc.Arbitrary<Buffer> {
  if (fields.every(([, shape]) => shape.kind === 'integer' && shape.bytes === 1 && shape.values === undefined)) {
    return arbitraryBytes(fields.length);
  }
  const unions = fields.map(([, shape]) => shape).filter((shape): shape is Union => shape.kind === 'union');
  const selector = unions[0]?.selector;
  if (selector === undefined) return fc.tuple(...fields.map(([, shape]) => arbitraryOf(shape))).map(concat);
  const selectorShape = fields.find(([name]) => name === selector)?.[1];
  if (selectorShape?.kind !== 'integer') throw new Error(`the selector ${selector} is no integer`);
  const arms = [...(unions[0]?.arms.keys() ?? [])];
  const choices = arms.filter((value) => (selectorShape.values?.includes(value) ?? true) && unions.every((each) => each.arms.has(value)));
  return fc.constantFrom(...choices).chain((choice) =>
    fc
      .tuple(
        ...fields.map(([name, shape]) => {
          if (name === selector) return fc.constant(integerBytes(choice, selectorShape.bytes));
          return arbitraryOf(shape.kind === 'union' ? armOf(shape, choice) : shape);
        }),
      )
      .map(concat),
  );
}

function armOf(shape: Union, choice: number): Shape {
  const arm = shape.arms.get(choice);
  if (arm === undefined) throw new Error(`no arm ${choice.toString()}`);
  return arm;
}

/** Canonical bytes of a structure: every byte string that this gives decodes. */
export function arbitraryOf(shape: Shape): fc.Arbitrary<Buffer> {
  switch (shape.kind) {
    case 'integer':
      return arbitraryInteger(shape);
    case 'bytes':
      return fc
        .uint8Array({ maxLength: Math.min(shape.max, LONGEST) })
        .map((value) => concat([integerBytes(value.length, 2), Buffer.from(value)]));
    case 'sized':
      return arbitraryOf(shape.of).map((inner) => concat([integerBytes(inner.length, 2), inner]));
    case 'list':
      return fc
        .array(arbitraryOf(shape.of), { minLength: shape.min, maxLength: Math.min(shape.max, MOST) })
        .map((elements) => concat([integerBytes(elements.length, 4), ...elements]));
    case 'struct':
      return arbitraryStruct(shape);
    case 'union':
      throw new Error('a union has no form without its selector');
    case 'empty':
      return fc.constant(Buffer.alloc(0));
  }
}

/** The two areas of a command's frame that its declaration describes. */
export interface CommandAreas {
  readonly handles: Buffer;
  readonly parameters: Buffer;
}

/** Handle and parameter areas of a command: both decode. */
export function arbitraryCommand(of: Command): fc.Arbitrary<CommandAreas> {
  return fc.record({
    handles: fc.tuple(...of.handleList.map(([, field]) => arbitraryOf(field.schema.shape))).map(concat),
    parameters: fc.tuple(...of.inList.map(([, schema]) => arbitraryOf(schema.shape))).map(concat),
  });
}
