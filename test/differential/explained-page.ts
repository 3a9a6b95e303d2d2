// The part of docs/conformance.md that says in what a vTPM differs from swtpm: made of the explanations.
import { avoided, type Explanation, explanations } from './explained.js';

const BEGIN = '<!-- explained differences: written by npm run fuzz:differential -- --docs -->';
const END = '<!-- end of explained differences -->';
const WIDTH = 140;

/** A list item of at most 140 columns a line. */
function item(name: string, reason: string): string {
  const lines: string[] = [];
  let line = '-';
  for (const word of `**${name}**: ${reason}.`.split(' ')) {
    if (line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = ' ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

const list = (entries: readonly Pick<Explanation, 'name' | 'reason'>[]): string =>
  entries.map(({ name, reason }) => item(name, reason)).join('\n');

const byCause = (cause: Explanation['cause']): Explanation[] => explanations.filter((explanation) => explanation.cause === cause);

/** The list, between its two comments. */
function renderExplained(): string {
  return `${BEGIN}
Because the chip is shared, or because of what tpmux has and libtpms 0.9.2 has not:

${list(byCause('product'))}

Because libtpms 0.9.2 is mistaken:

${list(byCause('libtpms'))}

Not compared, or gone round:

${list(avoided)}
${END}`;
}

/** The page with the list as it is now; undefined if the page has no place for it. */
export function withExplained(page: string): string | undefined {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  return from < 0 || to < from ? undefined : `${page.slice(0, from)}${renderExplained()}${page.slice(to + END.length)}`;
}
