// What commands print.

/** Where a command writes its result. */
export interface Output {
  /** One JSON document. */
  json(value: unknown): void;
  /** One line of text. */
  line(text: string): void;
}

export const standardOutput: Output = {
  json: (value) => process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`),
  line: (text) => process.stdout.write(`${text}\n`),
};

/** Columns as wide as their widest cell, two spaces apart; numbers are at the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const cells = [head, ...rows.map((row) => row.map(String))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  const right = head.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  return cells.map((row) =>
    row
      .map((cell, column) => (right[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
