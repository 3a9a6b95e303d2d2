// A guest's TPM device on the host over restarts of the daemon, where the kernel cannot make one. Where it can: test/qemu.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { GuestDevice, type DeviceKernel } from '../../src/guests/device.js';
import type { Logger } from '../../src/logger.js';
import { closeFd, socketPair } from '../../src/native/index.js';
import type { HostStore } from '../../src/store/host-store.js';
import { DeviceServer } from '../../src/transport/vtpmx.js';
import { EchoTpm } from '../transport/echo-tpm.js';
import { testLink } from '../transport/test-link.js';
import { RunningDaemon } from '../support/running-daemon.js';

describe('the TPM device of a guest', function () {
  let daemon: RunningDaemon;

  before(function () {
    if (existsSync('/dev/vtpmx')) {
      console.error('    not tested: this host has /dev/vtpmx, and would get a device');
      this.skip();
    }
  });
  beforeEach(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
    assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'g' })).status, 201);
  });
  afterEach(async () => {
    await daemon.dispose();
  });

  const restart = async (change: (store: HostStore) => Promise<void> = () => Promise.resolve()): Promise<void> => {
    await daemon.stop();
    await daemon.withStore(change);
    daemon.log.length = 0;
    await daemon.start();
  };
  const remade = (): string[] => daemon.log.filter((line) => line.includes('device'));

  it('is not remembered when it could not be made', async () => {
    const { status, body } = await daemon.ask('POST', '/v1/guests/g/device');
    assert.equal(status, 501);
    assert.match(body.error.why, /no \/dev\/vtpmx/);
    await restart();
    assert.deepEqual(remade(), []);
  });

  it('is tried at each start when there was one; without it the guest runs all the same, and the log says what to do', async () => {
    await restart(async (store) => {
      for (const meta of store.guests()) await store.updateGuest({ ...meta, device: true });
    });
    const { state, device } = (await daemon.ask('GET', '/v1/guests/g')).body;
    assert.deepEqual([state, device], ['running', null]);
    assert.match(remade().join(), /error the TPM device of a guest could not be made again .*modprobe tpm_vtpm_proxy/);

    assert.equal((await daemon.ask('DELETE', '/v1/guests/g/device')).status, 200);
    await restart();
    assert.deepEqual(remade(), []);
  });
});

// The kernel's side of the descriptor is played by the other end of a socket pair.
describe('making the TPM device of a guest', () => {
  const log: string[] = [];
  const note = ((message: string) => log.push(message)) as unknown as Logger['info'];
  const logger: Logger = { error: note, warn: note, info: note, debug: note };
  let server: DeviceServer | undefined;
  let open: number[] = [];
  const endpoint = {
    serveDevice: async (fd: number, onEnd: () => void): Promise<void> => {
      await server?.close(0);
      server = new DeviceServer(fd, testLink(new EchoTpm()));
      void server.ended.then(onEnd);
    },
    endDevice: async (): Promise<void> => {
      await server?.close(0);
    },
  };
  beforeEach(() => {
    log.length = 0;
    open = [];
  });
  afterEach(async () => {
    await endpoint.endDevice();
    open.forEach(closeFd);
  });

  /** A kernel that gives so many devices up, and shows the next one after a while. */
  const kernel = (givenUp: number): DeviceKernel => {
    let made = 0;
    let asked = 0;
    return {
      create: () => {
        const [fd, theirs] = socketPair();
        made += 1;
        if (made <= givenUp) closeFd(theirs);
        else open.push(theirs);
        return { fd, number: made, major: 0, minor: 0 };
      },
      exists: (path) => path === `/dev/tpm${(givenUp + 1).toString()}` && ++asked > 2,
    };
  };

  it('is done when it can be used, and made once', async () => {
    const device = new GuestDevice('g', logger, kernel(0));
    await device.make(endpoint);
    await device.make(endpoint);
    assert.deepEqual([device.path, log], ['/dev/tpm1', ['device made']]);
    await device.end(endpoint);
    assert.equal(device.path, undefined);
  });

  it('is tried again when the kernel has given it up, for the TPM may have been slow', async () => {
    const device = new GuestDevice('g', logger, kernel(2));
    await device.make(endpoint);
    assert.equal(device.path, '/dev/tpm3');
    assert.equal(log.at(-1), 'device made');
  });

  it('fails when the kernel never takes it', async () => {
    const device = new GuestDevice('g', logger, kernel(9));
    await assert.rejects(device.make(endpoint), /has not taken it/);
    assert.equal(device.path, undefined);
    assert.equal(open.length, 0);
  });
});
