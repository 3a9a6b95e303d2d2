// What the control API shows of guests.
import * as v from 'valibot';

const text = v.string();

/** A line on which raw TPM commands are served. */
const lineView = v.object({
  kind: v.picklist(['serial', 'console-socket']),
  path: text,
  open: v.boolean(),
  reason: v.pipe(v.nullable(text), v.description('why it is not open, or what is wrong with it')),
});

/** One guest. */
export const guestView = v.object({
  name: text,
  id: v.pipe(text, v.description('identity for its whole life, a UUID')),
  state: v.picklist(['off', 'running', 'failed']),
  reason: v.pipe(v.nullable(text), v.description('why it failed')),
  powered: v.pipe(v.boolean(), v.description("whether its TPM has power; a running guest's has none between SHUTDOWN and the next INIT")),
  created: v.pipe(text, v.description('ISO 8601')),
  autostart: v.pipe(v.boolean(), v.description('whether it runs whenever the daemon does')),
  policy: v.pipe(v.boolean(), v.description('whether it has a policy file')),
  socket: v.pipe(text, v.description('path of the data socket')),
  control: v.pipe(text, v.description('path of the swtpm control channel')),
  tcp: v.pipe(v.nullable(v.number()), v.description('data port on 127.0.0.1')),
  mssim: v.pipe(v.nullable(v.number()), v.description("command port of the simulator's protocol on 127.0.0.1")),
  lines: v.array(lineView),
  device: v.pipe(v.nullable(text), v.description('path of its TPM device on the host')),
  tcti: v.pipe(text, v.description('TCTI string for tpm2-tss programs')),
  connections: v.number(),
  machine: v.pipe(
    v.nullable(
      v.object({
        pid: v.pipe(v.number(), v.description('0 if it is not known')),
        program: v.pipe(text, v.description('as the kernel calls it; empty if it is not known')),
      }),
    ),
    v.description('the machine (QEMU, Xen) that has the TPM to itself'),
  ),
});

export const guestsView = v.object({ guests: v.array(guestView) });

export const pcrsView = v.object({
  guest: text,
  banks: v.pipe(v.record(text, v.array(text)), v.description('values in hexadecimal by bank, from PCR 0')),
});

export const pcrLogView = v.object({
  guest: text,
  entries: v.array(
    v.object({
      number: v.number(),
      time: text,
      kind: text,
      command: text,
      locality: v.number(),
      pcr: v.pipe(v.nullable(v.number()), v.description('null: all')),
      digests: v.pipe(v.record(text, text), v.description('hexadecimal, by bank')),
    }),
  ),
});

/** What commands cost in the chip. */
const commandCounter = v.object({
  command: text,
  calls: v.number(),
  hardwareCommands: v.number(),
  chipMilliseconds: v.number(),
});

export const countersView = v.object({ guest: text, commands: v.array(commandCounter) });

export const backupView = v.object({
  backup: v.pipe(text, v.description('the backup file')),
  recovery: v.pipe(v.boolean(), v.description('whether a recovery key opens it')),
});

export const importedView = v.object({
  guest: guestView,
  lost: v.pipe(v.array(text), v.description('records that were of no use without the old TPM')),
});

export const repairView = v.object({
  applied: v.boolean(),
  kept: v.pipe(v.number(), v.description('good records')),
  lost: v.array(v.object({ record: text, reason: text })),
  complete: v.pipe(v.boolean(), v.description('false: it is not known which other records are missing')),
  savedAs: v.pipe(v.nullable(text), v.description('where the damaged records were kept')),
});
