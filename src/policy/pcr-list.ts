// Lists of PCRs in policy files: `7`, `0-7`, `0-3,5,8-9`.
import { IMPLEMENTATION_PCR } from '../tpm/constants/index.js';

/** The indices that a list names, as it names them; undefined if it is no list of PCRs. */
export function parsePcrList(text: string): number[] | undefined {
  const indices: number[] = [];
  for (const part of text.split(',')) {
    const [, first, last = first] = /^\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*$/.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === undefined || from > to || to >= IMPLEMENTATION_PCR) return undefined;
    for (let index = from; index <= to; index++) indices.push(index);
  }
  return indices;
}

/** The shortest list of ascending indices. */
export function formatPcrList(indices: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const index of indices) {
    const last = ranges.at(-1);
    if (last?.[1] === index - 1) last[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([from, to]) => (from === to ? from.toString() : `${from.toString()}-${to.toString()}`)).join(',');
}
