// What every command that talks to a daemon has in common.
import type { Command } from 'commander';
import { loadConfig } from '../config/config.js';
import { ApiClient } from '../api/client.js';
import { standardOutput, type Output } from './output.js';

/** Options of every client command. */
export interface ClientOptions {
  readonly runDir?: string;
  readonly json?: boolean;
}

/** What a client command works with. */
export interface ClientContext {
  readonly api: ApiClient;
  readonly out: Output;
  /** Print JSON and nothing else. */
  readonly json: boolean;
}

/** Adds the options that every client command has. */
export function clientOptions(command: Command): Command {
  return command
    .option('--run-dir <dir>', "the daemon's run directory (default: TPMUX_RUN_DIR, the configuration, /run/tpmux)")
    .option('--json', 'print one JSON document')
    .option('--debug', 'print a stack trace with an error');
}

/** Finds the daemon. */
export async function clientContext({ runDir, json }: ClientOptions): Promise<ClientContext> {
  const directory = runDir ?? process.env['TPMUX_RUN_DIR'] ?? (await loadConfig({}, process.env)).runDir;
  return { api: new ApiClient(directory), out: standardOutput, json: json === true };
}
