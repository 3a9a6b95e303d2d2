import assert from 'node:assert/strict';
import { existsSync, fstatSync, readdirSync } from 'node:fs';
import { closeFd, createVtpmProxy, recvWithFds, sendWithFds, socketPair } from '../../src/native/index.js';
import { DeviceServer } from '../../src/transport/vtpmx.js';
import { waitFor } from '../support/wait-for.js';
import { commandOf, EchoTpm } from './echo-tpm.js';
import { testLink, type TestLink } from './test-link.js';

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

/** The driver's request to change the locality; its tag is TPM_ST_SESSIONS. */
function setLocality(locality: number): Buffer {
  const request = Buffer.from('80020000000b2000100000', 'hex');
  request.writeUInt8(locality, 10);
  return request;
}

// The kernel's side of the descriptor is played by the other end of a socket pair: one write, one command.
describe('a device of the host', () => {
  let kernel: number;
  let tpm: EchoTpm;
  let link: TestLink;
  let server: DeviceServer;
  let open = true;
  let descriptors: number;

  beforeEach(() => {
    descriptors = openDescriptors();
    const [ours, theirs] = socketPair();
    kernel = theirs;
    open = true;
    tpm = new EchoTpm();
    link = testLink(tpm);
    server = new DeviceServer(ours, link);
    assert.throws(() => fstatSync(ours), { code: 'EBADF' });
  });
  afterEach(async () => {
    await server.close(100);
    if (open) closeFd(kernel);
    assert.deepEqual(link.defects, []);
  });

  const answer = async (): Promise<string> => (await waitFor(() => recvWithFds(kernel, 8192))).data.toString('hex');
  const ask = (command: Buffer): Promise<string> => {
    sendWithFds(kernel, command);
    return answer();
  };

  it('executes commands at the locality that the driver set', async () => {
    const command = commandOf(Buffer.from('abc'));
    assert.equal(await ask(command), command.toString('hex'));
    assert.equal(await ask(setLocality(2)), '80010000000a00000000');
    assert.equal(await ask(command), command.toString('hex'));
    assert.equal(await ask(setLocality(5)), '80010000000a00000907');
    assert.equal(await ask(setLocality(0)), '80010000000a00000000');
    assert.equal(await ask(command), command.toString('hex'));
    assert.deepEqual(tpm.log, ['abc@0', 'abc@2', 'abc@0']);
    assert.equal(link.locality, 0);
  });

  it('takes a command of 4096 bytes, and answers what is too short or too long for one', async () => {
    assert.equal((await ask(commandOf(Buffer.alloc(4086)))).length, 8192);
    for (const bad of [Buffer.from('8001', 'hex'), Buffer.alloc(4097, 1), Buffer.from('8002000000 0a20001000'.replace(' ', ''), 'hex')]) {
      assert.equal(await ask(bad), '80010000000a00000142');
    }
  });

  it('ends when the device is gone, and keeps nothing of it', async () => {
    let ended = false;
    void server.ended.then(() => {
      ended = true;
    });
    await ask(commandOf(Buffer.from('there')));
    assert.equal(ended, false);
    closeFd(kernel);
    open = false;
    await waitFor(() => ended);
    await waitFor(() => openDescriptors() <= descriptors);
    assert.deepEqual(tpm.log, ['there@0']);
  });

  it('answers the command that runs when the guest is stopped', async () => {
    const release = tpm.hold();
    sendWithFds(kernel, commandOf(Buffer.from('last')));
    await waitFor(() => tpm.begun === 1);
    const closed = server.close(60_000);
    release();
    await closed;
    assert.equal(await answer(), commandOf(Buffer.from('last')).toString('hex'));
    assert.equal(await answer(), '');
  });
});

describe('making a device of the host', () => {
  it('fails as a system call where the kernel has no module for it', function () {
    if (existsSync('/dev/vtpmx')) this.skip();
    assert.throws(() => createVtpmProxy(), { code: 'ENOENT', syscall: 'vtpm_proxy' });
    assert.throws(() => createVtpmProxy('/dev/null'), { code: 'ENOTTY', syscall: 'vtpm_proxy' });
  });
});
