import type { Schema } from '../tpm/schema.js';

/** Bytes with a 32-bit size in front. A RangeError if there are more than `max`. */
export function longBytes(max: number): Schema<Buffer> {
  return {
    decode: (reader) => {
      const size = reader.uint32();
      if (size > max) throw new RangeError(`${size.toString()} bytes where at most ${max.toString()} are expected`);
      return reader.view(size);
    },
    encode: (writer, value) => {
      writer.uint32(value.length);
      writer.raw(value);
    },
    shape: { kind: 'bytes', max },
  };
}
