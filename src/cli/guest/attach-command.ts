// tpmux guest attach
import { Option, type Command } from 'commander';
import { checkName } from '../../guests/name.js';
import { EXIT, Failure } from '../../failure.js';
import type { GuestView } from '../../guests/view.js';
import { ATTACH_FORMATS, attachText, type AttachFormat } from './attach-formats.js';
import { clientContext, clientOptions, type ClientContext, type ClientOptions } from '../client-command.js';

interface AttachOptions extends ClientOptions {
  readonly format?: AttachFormat;
  readonly device?: boolean;
}

const EXAMPLES = `
Examples:
  export TPM2TOOLS_TCTI="$(tpmux guest attach web1 --format tcti)"
  tpmux guest attach web1 --format libvirt
  tpmux guest attach ci --device
`;

/** Adds `attach` to the command `guest`. */
export function addAttachCommand(guest: Command): void {
  clientOptions(guest.command('attach <name>').description('print what to paste to use the TPM of a guest'))
    .addOption(new Option('--format <format>', 'for which program').choices(ATTACH_FORMATS))
    .option('--device', 'make a /dev/tpmN on this host, now and each time that the guest starts, and print its name')
    .option('--no-device', 'take it away')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, { format, device, ...options }: AttachOptions) => {
      checkName(name);
      if (format === undefined && device === undefined) throw nothingWanted(name);
      const context = await clientContext(options);
      const guest = await ask(context, name, device);
      print(context, guest, format);
    });
}

async function ask({ api }: ClientContext, name: string, device: boolean | undefined): Promise<GuestView> {
  const params = { name };
  if (device === undefined) return await api.ask('showGuest', { params });
  return await (device ? api.ask('attachDevice', { params }) : api.ask('detachDevice', { params }));
}

function print({ out, json }: ClientContext, guest: GuestView, format: AttachFormat | undefined): void {
  const { device } = guest;
  const text = format === undefined ? (device ?? '') : attachText(format, guest);
  if (json) out.json(format === undefined ? { device } : { format, text, device });
  else if (text !== '') out.line(text);
}

function nothingWanted(name: string): Failure {
  return new Failure({
    code: 'nothing_wanted',
    what: `attaching guest ${name}`,
    why: 'none of --format, --device and --no-device is given',
    hint: `formats: ${ATTACH_FORMATS.join(', ')}`,
    exit: EXIT.usage,
  });
}
