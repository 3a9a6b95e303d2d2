// How the keeper ends when its daemon does not serve.
import assert from 'node:assert/strict';
import { waitFor } from '../../support/wait-for.js';
import { startTpmux, TPMUX, tpmux } from '../command-line.js';

describe('tpmux keep, at its start', () => {
  it('ends with the code of a daemon that cannot start', async () => {
    const failed = await tpmux(['keep', '--', ...TPMUX, 'serve', '--tcti', 'nonsense']);
    assert.ok(failed.code !== 0 && failed.code !== null);
    assert.equal(failed.out, '');
    const missing = await tpmux(['keep', '--', '/nonexistent/tpmux']);
    assert.equal(missing.code, 127);
    assert.equal((await tpmux(['keep'])).code, 2);
  });

  it('ends at once when it is told to before the daemon serves', async () => {
    const waiting = startTpmux(['keep', '--', 'sh', '-c', 'echo started >&2; exec sleep 60']);
    await waitFor(() => waiting.err().includes('started'));
    waiting.child.kill('SIGTERM');
    const { code } = await waiting.result;
    assert.equal(code, 1);
  });
});
