// tpmux keep
import type { Command } from 'commander';

/** Adds `keep`. */
export function addKeepCommand(program: Command): void {
  program
    .command('keep')
    .description('run the daemon, start it again when it dies, and keep the connections of its guests meanwhile')
    .argument('<command...>', 'the daemon, e.g. tpmux serve')
    .addHelpText(
      'after',
      '\nFor hosts without systemd, which does the same (FileDescriptorStoreMax=). Prints "ready" on standard output when the daemon serves.\n' +
        '\nSIGHUP replaces the daemon with what is on the disk now; SIGTERM ends it and this. A daemon that dies is started again at once,\n' +
        'one that then does not start after up to 10 s. The exit code is that of the daemon.\n' +
        '\nExamples:\n  tpmux keep -- tpmux serve\n  tpmux keep -- tpmux serve --tcti device:/dev/tpm0 --log-format json\n',
    )
    .action(async (command: string[]) => {
      // Loaded here, so that the other commands start without the native addon.
      const { Keeper } = await import('./keeper.js');
      const keeper = new Keeper({
        command,
        log: (line) => {
          process.stderr.write(`tpmux keep: ${line}\n`);
        },
        onReady: () => {
          process.stdout.write('ready\n');
        },
      });
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        process.on(signal, () => {
          keeper.stop();
        });
      }
      process.on('SIGHUP', () => {
        keeper.restart();
      });
      process.exitCode = await keeper.run();
    });
}
