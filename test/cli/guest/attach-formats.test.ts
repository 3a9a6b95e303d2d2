import assert from 'node:assert/strict';
import type { GuestView } from '../../../src/guests/view.js';
import { ATTACH_FORMATS, attachText } from '../../../src/cli/guest/attach-formats.js';

const DIRECTORY = '/run/tpmux/guests/web1';
const guest: GuestView = {
  name: 'web1',
  id: '00000000-0000-4000-8000-000000000000',
  state: 'running',
  reason: null,
  powered: true,
  created: '2026-01-01T00:00:00.000Z',
  autostart: true,
  policy: false,
  socket: `${DIRECTORY}/tpm.sock`,
  control: `${DIRECTORY}/tpm.sock.ctrl`,
  tcp: null,
  mssim: null,
  lines: [],
  device: null,
  tcti: `swtpm:path=${DIRECTORY}/tpm.sock`,
  connections: 0,
  machine: null,
};

describe('what guest attach prints', () => {
  it('has no more words than the program takes, for every format', () => {
    for (const format of ATTACH_FORMATS) assert.doesNotMatch(attachText(format, guest), /undefined|\n$/);
    assert.equal(attachText('tcti', guest), guest.tcti);
  });

  it('is a line of arguments for QEMU, safe for the shell and for QEMU', () => {
    assert.equal(
      attachText('qemu', guest),
      `-chardev socket,id=tpmux,path=${guest.control} -tpmdev emulator,id=tpm0,chardev=tpmux -device tpm-crb,tpmdev=tpm0`,
    );
    assert.match(attachText('qemu', { ...guest, control: '/run/a b,c/x' }), /'socket,id=tpmux,path=\/run\/a b,,c\/x' -tpmdev/);
  });

  it('is an element of a domain for libvirt', () => {
    const control = "/run/a&'b/tpm.sock.ctrl";
    assert.match(attachText('libvirt', { ...guest, control }), /path='\/run\/a&amp;&apos;b\/tpm\.sock\.ctrl'\/>/);
    assert.match(attachText('libvirt', guest), /^<tpm model='tpm-crb'>\n {2}<backend type='external'>\n/);
  });

  it('is lines of a domain configuration for xl, with a channel for each line of the guest', () => {
    const text = attachText('xl', guest);
    assert.match(
      text,
      /device_model_args_hvm = \[\n {2}"-chardev",\n {2}"socket,id=tpmux,path=\/run\/tpmux\/guests\/web1\/tpm\.sock\.ctrl",/,
    );
    assert.match(text, /# *tpmux guest create web1 --console-socket/);
    const lines: GuestView['lines'] = [
      { kind: 'serial', path: '/dev/pts/4', open: true, reason: null },
      { kind: 'console-socket', path: '/run/web1.console', open: false, reason: 'ENOENT' },
    ];
    assert.match(
      attachText('xl', { ...guest, lines }),
      /^channel = \[ "connection=socket,path=\/run\/web1\.console,name=org\.tpmux\.0", "connection=pty,name=org\.tpmux\.1" \]$/m,
    );
  });

  it('is options of docker: the device if there is one, else the socket', () => {
    assert.match(
      attachText('docker', guest),
      /^--mount type=bind,source=\/run\/tpmux\/guests\/web1,target=\/run\/tpmux --env TPM2TOOLS_TCTI=swtpm:path=\/run\/tpmux\/tpm\.sock\n/,
    );
    assert.equal(
      attachText('docker', { ...guest, device: '/dev/tpm12' }),
      '--device /dev/tpm12:/dev/tpm0 --device /dev/tpmrm12:/dev/tpmrm0',
    );
  });
});
