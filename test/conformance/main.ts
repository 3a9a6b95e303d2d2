// npm run conformance: the integration scripts of tpm2-tools against guests of tpmux and against plain swtpm; writes docs/conformance.md.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkPrerequisites, CannotRun, type Versions } from './prerequisites.js';
import { isRegression, parseReport, renderReport, type Report, type Results, type Row } from './report.js';
import { listScripts, runScript, type Script, type Verdict } from './scripts.js';
import { swtpmTarget, TpmuxTarget, type Target } from './targets.js';
import { difference, toolErrors } from './tool-errors.js';

interface Options {
  readonly only: RegExp;
  readonly reference: boolean;
  readonly fapi: boolean;
  readonly timeoutSeconds: number;
}

const PAGE = fileURLToPath(new URL('../../docs/conformance.md', import.meta.url));
const FAILED = 1;
const WRONG_USAGE = 2;
const NO_NOTES = 'None.';

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: 'string', default: '' },
        'no-reference': { type: 'boolean', default: false },
        fapi: { type: 'boolean', default: false },
        timeout: { type: 'string', default: '300' },
      },
    });
    const timeoutSeconds = Number(values.timeout);
    if (!(timeoutSeconds > 0)) throw new Error(`--timeout ${values.timeout} is no number of seconds`);
    return { only: new RegExp(values.only), reference: !values['no-reference'], fapi: values.fapi, timeoutSeconds };
  } catch (error) {
    throw new CannotRun(error instanceof Error ? error.message : String(error));
  }
}

/** What the page says already, or an empty report if it is of other versions. */
async function earlierReport(versions: Versions, options: Options): Promise<Report> {
  const earlier = parseReport(await readFile(PAGE, 'utf8').catch(() => ''));
  const notes = earlier?.notes ?? NO_NOTES;
  const same = earlier?.versions.tools === versions.tools && earlier.versions.swtpm === versions.swtpm;
  if (!options.reference && !same) {
    throw new CannotRun('docs/conformance.md has no results of these versions of tpm2-tools and swtpm (run without --no-reference)');
  }
  const results: Results = same ? earlier.results : new Map<string, Row>();
  return { versions, notes, results };
}

async function runAll(
  target: Target,
  scripts: readonly Script[],
  run: (script: Script, tcti: string) => Promise<Verdict>,
  results: Results,
) {
  for (const script of scripts) {
    const started = Date.now();
    const tpm = await target.fresh();
    let verdict: Verdict;
    try {
      verdict = await run(script, tpm.tcti);
    } finally {
      await tpm.remove();
    }
    results.set(script.name, { ...results.get(script.name), [target.name]: verdict });
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    console.log(`${target.name}  ${script.name.padEnd(36)} ${verdict.padEnd(8)} ${seconds.padStart(6)} s`);
  }
}

async function runOnTpmux(work: string, runOn: (target: Target) => Promise<void>): Promise<void> {
  const root = join(work, 'daemon');
  const tpmux = await TpmuxTarget.start(root);
  try {
    await runOn(tpmux);
  } finally {
    await writeFile(join(work, 'log', 'daemon.log'), tpmux.log());
    await rm(root, { recursive: true, force: true });
  }
}

/** A script may pass although a tool failed; such differences are worth a look. */
async function tellOtherErrors(logs: string, scripts: readonly Script[]): Promise<void> {
  for (const { name } of scripts) {
    const [tpmux, swtpm] = await Promise.all(['tpmux', 'swtpm'].map((target) => toolErrors(join(logs, target, `${name}.log`))));
    for (const message of difference(tpmux ?? [], swtpm ?? [])) console.log(`only on tpmux  ${name}: ${message}`);
    for (const message of difference(swtpm ?? [], tpmux ?? [])) console.log(`only on swtpm  ${name}: ${message}`);
  }
}

async function main(): Promise<number> {
  const options = readOptions();
  const { source, ...versions } = checkPrerequisites(process.env['TPM2TOOLS_SRC']);
  const report = await earlierReport(versions, options);
  const scripts = (await listScripts(source, options.fapi)).filter(({ name }) => options.only.test(name));
  if (scripts.length === 0) throw new CannotRun('--only matches no script');

  const work = await mkdtemp(join(tmpdir(), 'tpmux-conformance-'));
  const end = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      end.abort(new CannotRun('interrupted'));
    });
  }
  const runOn = async (target: Target): Promise<void> => {
    const logs = join(work, 'log', target.name);
    await mkdir(join(logs, 'fapi'), { recursive: true });
    const run = (script: Script, tcti: string): Promise<Verdict> => {
      end.signal.throwIfAborted();
      const log = join(logs, `${script.name}.log`);
      return runScript(script, {
        source,
        tcti,
        scratch: join(work, 'scratch'),
        log,
        timeoutSeconds: options.timeoutSeconds,
        end: end.signal,
      });
    };
    try {
      await runAll(target, scripts, run, report.results);
      end.signal.throwIfAborted();
    } finally {
      await target.stop();
    }
  };

  await mkdir(join(work, 'log'));
  console.log(`output of the scripts: ${join(work, 'log')}`);
  try {
    await runOnTpmux(work, runOn);
    if (options.reference) await runOn(swtpmTarget);
  } catch (error) {
    // A signal to the whole process group ends the daemon too, with errors of all kinds.
    end.signal.throwIfAborted();
    throw error;
  }

  if (options.reference) await tellOtherErrors(join(work, 'log'), scripts);
  await writeFile(PAGE, renderReport(report));
  const regressions = scripts.map(({ name }) => name).filter((name) => isRegression(report.results.get(name) ?? {}));
  console.log(
    `docs/conformance.md written; ${scripts.length.toString()} scripts run, ${regressions.length.toString()} that only swtpm passes`,
  );
  for (const name of regressions) console.log(`  ${name}`);
  return regressions.length === 0 ? 0 : FAILED;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof CannotRun)) throw error;
  console.error(`conformance: ${error.message}`);
  process.exitCode = WRONG_USAGE;
}
