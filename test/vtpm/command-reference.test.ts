import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { commandTable } from '../../src/tpm/commands/index.js';
import { commandReference } from '../../src/vtpm/command-reference.js';

describe('docs/commands.md', () => {
  it('is what the command table says (run: npm run docs:commands)', async () => {
    assert.equal(await readFile(new URL('../../docs/commands.md', import.meta.url), 'utf8'), commandReference());
  });

  it('has every command', () => {
    const page = commandReference();
    for (const { name } of commandTable.values()) assert.ok(page.includes(`| \`${name}\` |`), name);
  });
});
