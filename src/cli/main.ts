#!/usr/bin/env node
// Entry of the executable.
import { createRequire } from 'node:module';
import { createProgram, runCommandLine } from './program.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

// A reader that has seen enough (`tpmux guest list | head -1`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const code = await runCommandLine(createProgram(version), process.argv);
process.stdout.write('', () => {
  process.exit(code);
});
