import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { avoided, explanations } from './explained.js';
import { withExplained } from './explained-page.js';

describe('explained differences', () => {
  it('are those of docs/conformance.md (npm run fuzz:differential -- --docs writes them)', async () => {
    const page = await readFile(new URL('../../docs/conformance.md', import.meta.url), 'utf8');
    assert.equal(page, withExplained(page));
  });

  it('have names of their own', () => {
    const names = [...explanations, ...avoided].map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
  });
});
