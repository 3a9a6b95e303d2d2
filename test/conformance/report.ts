// docs/conformance.md: written from results, and read back, so that a run of some scripts leaves the others' rows as they are.
import type { Versions } from './prerequisites.js';
import type { Verdict } from './scripts.js';

export interface Row {
  readonly tpmux?: Verdict;
  readonly swtpm?: Verdict;
}

/** Results by script. */
export type Results = Map<string, Row>;

export interface Report {
  readonly versions: Versions;
  readonly results: Results;
  /** What people wrote between the two markers. */
  readonly notes: string;
}

const NOTES_BEGIN = '<!-- notes: written by hand, kept by npm run conformance -->';
const NOTES_END = '<!-- end of notes -->';
const CELLS: Readonly<Record<Verdict, string>> = { pass: 'pass', partial: 'pass, parts skipped', skip: 'skipped', fail: '**FAIL**' };
const NOT_RUN = 'not run';

/** A script counts as a regression when plain swtpm passes it (or was never asked) and tpmux does not. */
export function isRegression({ tpmux, swtpm }: Row): boolean {
  if (swtpm === undefined) return tpmux === 'fail';
  return passed(swtpm) && tpmux !== undefined && (!passed(tpmux) || (tpmux === 'partial' && swtpm === 'pass'));
}

const passed = (verdict: Verdict | undefined): boolean => verdict === 'pass' || verdict === 'partial';

/** The text of the page. */
export function renderReport({ versions, results, notes }: Report): string {
  const names = [...results.keys()].sort((a, b) => Number(a.startsWith('fapi/')) - Number(b.startsWith('fapi/')) || (a < b ? -1 : 1));
  const cell = (verdict: Verdict | undefined): string => (verdict === undefined ? NOT_RUN : CELLS[verdict]);
  const table = names.map((name) => {
    const row = results.get(name) ?? {};
    return `| ${name} | ${cell(row.tpmux)} | ${cell(row.swtpm)} |`;
  });
  const rows = [...results.values()];
  return `# Conformance: the integration scripts of tpm2-tools

Each script of the suite that comes with tpm2-tools runs, unmodified, against a new guest of one tpmux daemon (its chip is the embedded
software TPM), and against a new plain swtpm. \`npm run conformance\` writes this page.

tpm2-tools ${versions.tools}, swtpm ${versions.swtpm}.

|  | tpmux | plain swtpm |
|---|---|---|
${(['pass', 'partial', 'skip', 'fail'] as const).map((verdict) => totals(verdict, rows)).join('\n')}

Scripts that pass on plain swtpm and not on tpmux: ${rows.filter(isRegression).length.toString()}.

## How to run

    git clone --depth 1 --branch ${versions.tools} https://github.com/tpm2-software/tpm2-tools /tmp/tpm2-tools
    TPM2TOOLS_SRC=/tmp/tpm2-tools npm run conformance -- --fapi

The source must be of the version of the installed tools; nothing of it is copied. It needs the Debian packages of \`scripts/setup\`, and
python3-yaml, xxd and expect. One run takes about ten minutes for each column.

| option | |
|---|---|
| \`--only REGEX\` | only scripts whose name matches; the other rows of the table stay |
| \`--no-reference\` | not on plain swtpm: its column stays |
| \`--fapi\` | also the scripts of FAPI, \`fapi/…\` |
| \`--timeout SECONDS\` | time for one script, 300 |

Exit code: 0 when tpmux passes all that plain swtpm passes, 1 when not, 2 when something is missing. The scripts' output is kept in a
directory that the command names. The command also prints the tools' error messages that came on one of the two only: some scripts pass
although a tool failed. A wrapper around \`tpm2\` does what a resource manager does: it flushes what a tool left in the TPM.

## Differences

${NOTES_BEGIN}
${notes}
${NOTES_END}

## Results

| script | tpmux | plain swtpm |
|---|---|---|
${table.join('\n')}
`;
}

function totals(verdict: Verdict, rows: readonly Row[]): string {
  const count = (target: 'tpmux' | 'swtpm'): string => rows.filter((row) => row[target] === verdict).length.toString();
  return `| ${CELLS[verdict].replaceAll('*', '').toLowerCase()} | ${count('tpmux')} | ${count('swtpm')} |`;
}

/** Reads a page that {@link renderReport} wrote; undefined when the text is none. */
export function parseReport(text: string): Report | undefined {
  const versions = /^tpm2-tools (\S+), swtpm (\S+)\.$/m.exec(text);
  const from = text.indexOf(NOTES_BEGIN);
  const to = text.indexOf(NOTES_END);
  if (versions === null || from < 0 || to < from) return undefined;
  const results: Results = new Map();
  for (const line of text.slice(text.indexOf('## Results')).split('\n')) {
    const [, name, tpmux, swtpm] = /^\| ([\w/-]+) \| (.+?) \| (.+?) \|$/.exec(line) ?? [];
    if (name === undefined || name === 'script') continue;
    results.set(name, { ...verdictOf('tpmux', tpmux), ...verdictOf('swtpm', swtpm) });
  }
  return {
    versions: { tools: versions[1] ?? '', swtpm: versions[2] ?? '' },
    results,
    notes: text.slice(from + NOTES_BEGIN.length, to).trim(),
  };
}

function verdictOf(target: 'tpmux' | 'swtpm', cell: string | undefined): Row {
  const verdict = (Object.keys(CELLS) as Verdict[]).find((key) => CELLS[key] === cell);
  return verdict === undefined ? {} : { [target]: verdict };
}
