import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, parseConfig } from '../../src/config/config.js';
import { DEFAULT_COUNTER_INDEX } from '../../src/hardware/host/counter.js';
import { DEFAULT_HOST_ROOT_HANDLE } from '../../src/hardware/host/keys.js';
import { EXIT, Failure } from '../../src/failure.js';
import { LIMIT_NAMES, LIMIT_SETTINGS } from '../../src/config/limits.js';

const refused = (content: string, why: RegExp): void => {
  assert.throws(
    () => parseConfig('/etc/t.yaml', content),
    (error: unknown) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.exit, EXIT.usage);
      assert.match(error.message, /^reading the configuration \/etc\/t\.yaml : /);
      assert.match(error.why, why);
      return true;
    },
  );
};

describe('the configuration', () => {
  let directory: string;
  let file: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tpmux-config-'));
    file = join(directory, 'tpmux.yaml');
    await writeFile(file, 'tcti: from-file\nstate-dir: /file/state\nrun-dir: /file/run\nlog: {level: warn}\n');
  });
  after(() => rm(directory, { recursive: true }));

  it('prefers a flag to the environment, that to the file, that to the default', async () => {
    const environment = { TPMUX_CONFIG: file, TPMUX_STATE_DIR: '/env/state', TPMUX_RUN_DIR: '/env/run' };
    const config = await loadConfig({ runDir: '/flag/run' }, environment);
    assert.equal(config.runDir, '/flag/run');
    assert.equal(config.stateDir, '/env/state');
    assert.equal(config.tcti, 'from-file');
    assert.equal(config.logLevel, 'warn');
    assert.equal(config.logFormat, 'text');
    assert.equal(config.maxConnections, 32);
  });

  it('lets the more important source choose between a chip and the embedded one', async () => {
    const embedded = join(directory, 'embedded.yaml');
    await writeFile(embedded, 'embedded-tpm: true\n');
    const choose = async (flags: object, environment: object): Promise<boolean> =>
      (await loadConfig({ config: embedded, ...flags }, environment as NodeJS.ProcessEnv)).embeddedTpm;
    assert.equal(await choose({}, {}), true);
    assert.equal(await choose({ tcti: 'device:/dev/tpm0' }, {}), false);
    assert.equal(await choose({}, { TPMUX_TCTI: 'device:/dev/tpm0' }), false);
    assert.equal(await choose({ embeddedTpm: true }, { TPMUX_TCTI: 'device:/dev/tpm0' }), true);
  });

  it('may be missing unless it was named', async () => {
    await assert.rejects(loadConfig({ config: join(directory, 'none.yaml') }, {}), /none\.yaml : ENOENT/);
  });

  it('takes an empty file, YAML and JSON', () => {
    assert.deepEqual(parseConfig('f', ''), {});
    assert.deepEqual(parseConfig('f', '{"tcti": "x", "log": {"format": "json"}}'), { tcti: 'x', log: { format: 'json' } });
  });

  it('has a sample file with every setting at its default', async () => {
    const sample = new URL('../../docs/tpmux.yaml', import.meta.url).pathname;
    const handles = { hostRootHandle: DEFAULT_HOST_ROOT_HANDLE, counterIndex: DEFAULT_COUNTER_INDEX };
    const limits = Object.fromEntries(LIMIT_NAMES.map((name) => [name, LIMIT_SETTINGS[name].normal]));
    const expected = { ...(await loadConfig({ config: '/dev/null' }, {})), ...handles, limits };
    assert.deepEqual(await loadConfig({ config: sample }, {}), expected);
  });

  it('names file, place and what was expected', () => {
    refused('statedir: /x', /^statedir: there is no such setting$/);
    refused('log: {level: loud}', /^log\.level: .*"error" \| "warn" \| "info" \| "debug"/);
    refused('connections: {max-per-guest: many}', /^connections\.max-per-guest: .*Expected number/);
    refused('connections: {max-per-guest: 0}', /^connections\.max-per-guest: .*Expected >=1/);
    refused('host-root-handle: 0x80000000', /^host-root-handle: .*Expected >=2164260864/);
    refused('limits: {nv-bytes: 1}', /^limits\.nv-bytes: Expected a number from 8192 to 1048576/);
    refused('policies: {default: ../x}', /^policies\.default: Expected the name of a class/);
    refused('- a\n- b', /^the file: Expected settings by name/);
    refused('just words', /^the file: .*Expected Object/);
    refused('tcti: [1', /^line 1 is not YAML/);
    refused('tcti: ""', /^tcti: /);
  });
});
