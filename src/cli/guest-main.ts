#!/usr/bin/env node
// Entry of the executable tpmux-guest.
import { createRequire } from 'node:module';
import { createGuestProgram } from './inside/guest-program.js';
import { runCommandLine } from './run-command-line.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

process.exitCode = await runCommandLine(createGuestProgram(version), process.argv);
