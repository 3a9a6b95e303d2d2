// What to paste to use the TPM of a guest, for each program.
import type { GuestView } from '../../guests/view.js';

export const ATTACH_FORMATS = ['qemu', 'libvirt', 'xl', 'docker', 'tcti'] as const;
export type AttachFormat = (typeof ATTACH_FORMATS)[number];

/** The text for a program; it ends without a line break. */
export function attachText(format: AttachFormat, guest: GuestView): string {
  return TEXTS[format](guest).join('\n');
}

const TEXTS: Readonly<Record<AttachFormat, (guest: GuestView) => string[]>> = {
  qemu: ({ control }) => [qemuArguments(control).map(shell).join(' ')],
  libvirt: ({ control }) => [
    "<tpm model='tpm-crb'>",
    "  <backend type='external'>",
    `    <source type='unix' mode='connect' path='${xml(control)}'/>`,
    '  </backend>',
    '</tpm>',
  ],
  xl: (guest) => [...xlHvm(guest), '', ...xlPv(guest)],
  docker,
  tcti: ({ tcti }) => [tcti],
};

function qemuArguments(control: string): string[] {
  // A comma in an option's value is written twice.
  const path = control.replaceAll(',', ',,');
  return ['-chardev', `socket,id=tpmux,path=${path}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpmux', '-device', 'tpm-crb,tpmdev=tpm0'];
}

function xlHvm({ control }: GuestView): string[] {
  const listed = qemuArguments(control).map((argument) => `  ${quoted(argument)},`);
  return ['# HVM: the device model is QEMU and gets these arguments', 'device_model_args_hvm = [', ...listed, ']'];
}

function xlPv({ name, lines }: GuestView): string[] {
  const sockets = lines.filter(({ kind }) => kind === 'console-socket');
  const ttys = lines.filter(({ kind }) => kind === 'serial');
  const channels = [
    ...sockets.map(({ path }, index) => `connection=socket,path=${path},name=${channelName(index)}`),
    ...ttys.map((_, index) => `connection=pty,name=${channelName(sockets.length + index)}`),
  ];
  if (channels.length === 0) {
    return [
      '# PV: no TPM device exists there; raw TPM commands go through a channel, which the guest must be created with:',
      `#   tpmux guest create ${name} --console-socket /run/tpmux-${name}.console`,
      `# channel = [ "connection=socket,path=/run/tpmux-${name}.console,name=org.tpmux.0" ]`,
    ];
  }
  const notes = ttys.map(
    ({ path }) => `# the tty that 'xenstore-ls /local/domain/DOMID/device/console' shows for it must be found at ${path}`,
  );
  return ['# PV: raw TPM commands through a channel', ...notes, `channel = [ ${channels.map(quoted).join(', ')} ]`];
}

function channelName(index: number): string {
  return `org.tpmux.${index.toString()}`;
}

function docker({ device, socket, name }: GuestView): string[] {
  if (device !== null) {
    const number = /\d+$/.exec(device)?.[0] ?? '0';
    return [`--device ${device}:/dev/tpm0 --device /dev/tpmrm${number}:/dev/tpmrm0`];
  }
  const directory = socket.slice(0, socket.lastIndexOf('/'));
  const inside = '/run/tpmux';
  const file = socket.slice(socket.lastIndexOf('/') + 1);
  return [
    `--mount ${shell(`type=bind,source=${directory},target=${inside}`)} --env TPM2TOOLS_TCTI=swtpm:path=${inside}/${file}`,
    `# or, for a /dev/tpm0 in the container: tpmux guest attach ${name} --device, and this command again`,
  ];
}

/** A string of xl.cfg(5). */
function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
}

function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');
}

/** A word of a shell command. */
function shell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
