// A machine keeps its TPM while the daemon is killed or replaced: PCRs, sessions, loaded objects.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KeptDaemon } from '../support/kept-daemon.js';
import { Machine, missingForQemu } from './machine.js';

const DIGEST = '11'.repeat(32);

describe('a machine whose daemon ends', function () {
  this.timeout(600_000);
  let daemon: KeptDaemon | undefined;
  let machine: Machine | undefined;

  before(async function () {
    const missing = missingForQemu();
    if (missing !== '') {
      console.error(`    restarts under a machine are not tested: ${missing} not found (scripts/setup installs what is needed)`);
      this.skip();
    }
    daemon = await KeptDaemon.start();
    await daemon.create('web');
    const directory = join(daemon.root, 'machine');
    await mkdir(directory);
    machine = await Machine.start({ firmware: 'seabios', device: 'tpm-tis', control: `${daemon.socket('web')}.ctrl`, directory });
    await machine.booted();
  });
  after(async () => {
    await machine?.kill();
    await daemon?.dispose();
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.error(daemon?.log.split('\n').slice(-30).join('\n'));
  });

  const both = (): { daemon: KeptDaemon; machine: Machine } => {
    assert.ok(daemon !== undefined && machine !== undefined);
    return { daemon, machine };
  };
  const pcr = async (index: number): Promise<string> => {
    const text = await both().machine.run(`tpm2 pcrread sha256:${index.toString()}`);
    return /0x([0-9A-F]{64})/.exec(text)?.[1]?.toLowerCase() ?? text;
  };

  for (const [how, interrupt] of [
    [
      'is killed',
      (kept: KeptDaemon): void => {
        kept.kill();
      },
    ],
    [
      'is replaced in order',
      (kept: KeptDaemon): void => {
        kept.replace();
      },
    ],
  ] as const) {
    it(`goes on with its sessions, PCRs and objects when the daemon ${how}`, async () => {
      const { daemon, machine } = both();
      await machine.run(`tpm2 pcrextend 16:sha256=${DIGEST}`);
      const before = await machine.run('tpm2 pcrread sha256');
      await machine.run(
        'tpm2 startauthsession -Q --policy-session -S policy.ctx && tpm2 policypcr -Q -S policy.ctx -l sha256:16 -L digest.1',
      );
      await machine.run(
        'tpm2 createprimary -Q -C o -G ecc -c primary.ctx && tpm2 startauthsession -Q --hmac-session -c primary.ctx -S hmac.ctx',
      );
      await machine.run('tpm2 createpolicy -Q --policy-pcr -l sha256:16 -L policy');
      await machine.run('printf secret | tpm2 create -Q -C primary.ctx -L policy -i- -u sealed.pub -r sealed.priv -c sealed.ctx');

      await daemon.over(() => {
        interrupt(daemon);
      });

      assert.equal(await machine.run('tpm2 pcrread sha256'), before);
      // The session is still satisfied by what it was told before.
      assert.equal(await machine.run('tpm2 unseal -c sealed.ctx -p session:policy.ctx && tpm2 flushcontext policy.ctx'), 'secret');
      await machine.run('tpm2 getrandom --hex 8 -S hmac.ctx && tpm2 flushcontext hmac.ctx');
      await machine.run(
        'tpm2 create -Q -C primary.ctx -G ecc -u key.pub -r key.priv -c key.ctx && echo m >m && tpm2 sign -Q -c key.ctx -o s m',
      );
      await machine.run('tpm2 flushcontext -t');
    });
  }

  it('starts from Startup(CLEAR) after a reset from inside', async () => {
    const { daemon, machine } = both();
    const booted = machine.booted();
    machine.send('reboot -f');
    await daemon.over(() => {
      daemon.kill();
    });
    await booted;
    assert.equal(await pcr(16), '00'.repeat(32));
  });
});
