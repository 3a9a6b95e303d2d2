// tpmux serve
import { Option, type Command } from 'commander';
import { LOG_FORMATS, LOG_LEVELS, loadConfig, type ConfigFlags } from '../../config/config.js';

/** Adds `serve`. */
export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('run the daemon')
    .option('--config <file>', 'configuration file (default: TPMUX_CONFIG, /etc/tpmux/tpmux.yaml)')
    .addOption(
      new Option('--tcti <conf>', 'TCTI string of the hardware TPM (default: TPMUX_TCTI, device:/dev/tpm0)').conflicts('embeddedTpm'),
    )
    .option('--embedded-tpm', 'run a software TPM of its own instead; not for keys that matter')
    .option('--state-dir <dir>', 'durable state (default: TPMUX_STATE_DIR, /var/lib/tpmux)')
    .option('--run-dir <dir>', 'sockets (default: TPMUX_RUN_DIR, /run/tpmux)')
    .addOption(new Option('--log-level <level>', 'what is logged').choices(LOG_LEVELS))
    .addOption(new Option('--log-format <format>', 'how it is logged').choices(LOG_FORMATS))
    .option('--debug', 'print a stack trace with an error')
    .addHelpText(
      'after',
      '\nPrints "ready" on standard output when it serves; logs go to standard error. SIGTERM ends it in order, SIGHUP reads policy classes again.\n' +
        '\nExamples:\n  tpmux serve\n  tpmux serve --embedded-tpm --state-dir /tmp/t/state --run-dir /tmp/t/run\n',
    )
    .action(async (flags: ConfigFlags) => {
      const config = await loadConfig(flags, process.env);
      // Loaded here, so that the other commands start without it.
      const [{ runDaemon }, { createLogger }] = await Promise.all([import('../../daemon/daemon.js'), import('../../logger.js')]);
      process.umask(0o077);
      const end = new AbortController();
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        process.on(signal, () => {
          end.abort();
        });
      }
      // Until the daemon has something to read again, and while it ends, the signal does nothing.
      process.on('SIGHUP', () => undefined);
      const onReload = (reload: () => void): void => {
        process.on('SIGHUP', reload);
      };
      const onReady = (): void => {
        process.stdout.write('ready\n');
      };
      await runDaemon(config, { log: createLogger(config), onReady, onReload, end: end.signal, environment: process.env });
    });
}
