// Writes docs/commands.md from the command table.
import { writeFile } from 'node:fs/promises';
import { commandReference } from '../src/vtpm/command-reference.js';

await writeFile(new URL('../docs/commands.md', import.meta.url), commandReference());
