import assert from 'node:assert/strict';
import { tpmux } from './command-line.js';

describe('the command line without a daemon', () => {
  const ends = async (args: readonly string[], code: number, err: RegExp): Promise<void> => {
    const result = await tpmux(args, { TPMUX_RUN_DIR: '/nonexistent/run' });
    assert.equal(result.code, code, `${args.join(' ')}: ${result.err}`);
    assert.equal(result.out, '');
    assert.match(result.err, err);
    assert.equal(result.err.trimEnd().split('\n').length, 1);
  };

  it('ends with 2 for wrong usage, in one line', async () => {
    await ends(['frob'], 2, /^tpmux: command line : unknown command 'frob' \(see tpmux --help\)\n$/);
    await ends(['guest', 'list', '--frob'], 2, /unknown option '--frob'/);
    await ends(['guest', 'show'], 2, /missing required argument 'name'/);
    await ends(['guest', 'create', 'a', '--tcp', 'x'], 2, /A port is 1 to 65534/);
    await ends(['guest', 'create', '..'], 2, /guest name "\.\." : a name has 1 to 63/);
    await ends(['guest', 'create', 'a', '--policy', '/nonexistent/p'], 2, /reading the policy \/nonexistent\/p : ENOENT/);
    await ends(['guest', 'remove', 'a'], 2, /add --yes/);
    await ends(
      ['guest', 'attach', 'a'],
      2,
      /none of --format, --device and --no-device is given \(formats: qemu, libvirt, xl, docker, tcti\)/,
    );
    await ends(['guest', 'attach', 'a', '--format', 'vmware'], 2, /Allowed choices are qemu/);
    await ends(['guest', 'create', 'a', '--mssim', '65535'], 2, /A port is 1 to 65534/);
    await ends(['pcr', 'read', 'a', '99'], 2, /A PCR index is 0 to 23/);
    await ends(['serve', '--config', '/nonexistent/c'], 2, /reading the configuration \/nonexistent\/c/);
    await ends(['serve', '--tcti', 'x', '--embedded-tpm'], 2, /cannot be used with/);
  });

  it('ends with 4 where no daemon can be reached', async () => {
    const unreachable =
      /^tpmux: reaching the daemon at \/nonexistent\/run\/control\.sock : no daemon runs there \(start it with 'tpmux serve'/;
    for (const args of [
      ['status'],
      ['guest', 'list', '--json'],
      ['guest', 'remove', 'a', '--yes'],
      ['pcr', 'read', 'a'],
      ['counters', 'a'],
    ]) {
      await ends(args, 4, unreachable);
    }
  });

  it('prefers --run-dir to the environment', async () => {
    await ends(['status', '--run-dir', '/nonexistent/other'], 4, /\/nonexistent\/other\/control\.sock/);
  });

  it('shows a stack trace with --debug only', async () => {
    const { err, code } = await tpmux(['status', '--debug', '--run-dir', '/nonexistent']);
    assert.equal(code, 4);
    assert.match(err, /\n\s+at /);
  });

  it('has help and a version', async () => {
    for (const args of [['--help'], ['guest', '--help'], ['guest', 'create', '--help'], ['serve', '--help'], ['doctor', '--help']]) {
      const { code, out } = await tpmux(args);
      assert.equal(code, 0);
      assert.match(out, /^Usage: tpmux/);
    }
    assert.match((await tpmux(['guest', 'create', '--help'])).out, /Examples:\n {2}tpmux guest create web1/);
    const version = await tpmux(['--version']);
    assert.equal(version.code, 0);
    assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
    assert.equal((await tpmux([])).code, 2);
    assert.equal((await tpmux(['guest'])).code, 2);
  });
});
