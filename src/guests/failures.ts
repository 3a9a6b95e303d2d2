// What can be wrong with a request about a guest.
import { EXIT, Failure } from '../failure.js';

export const guestNotFound = (name: string): Failure =>
  new Failure({
    code: 'guest_not_found',
    what: `guest ${name}`,
    why: 'there is no such guest',
    hint: "'tpmux guest list' shows all guests",
    exit: EXIT.failed,
  });

export const guestExists = (name: string): Failure =>
  new Failure({
    code: 'guest_exists',
    what: `creating guest ${name}`,
    why: 'a guest of this name exists',
    hint: 'choose another name, or remove that guest first',
    exit: EXIT.failed,
  });

export const guestNotRunning = (name: string, failure: string | undefined): Failure =>
  new Failure({
    code: 'guest_not_running',
    what: `guest ${name}`,
    why: failure === undefined ? 'it is off' : `it could not be started: ${failure}`,
    hint: `'tpmux guest start ${name}' starts it`,
    exit: EXIT.failed,
  });

export const guestRunning = (name: string): Failure =>
  new Failure({
    code: 'guest_running',
    what: `guest ${name}`,
    why: 'it runs',
    hint: `'tpmux guest stop ${name}' stops it`,
    exit: EXIT.failed,
  });

export const guestPresent = (name: string): Failure =>
  new Failure({
    code: 'guest_exists',
    what: `importing guest ${name}`,
    why: 'it is here already, and would be replaced',
    hint: 'stop it and add --replace if that is wanted; all that it has now is lost then',
    exit: EXIT.failed,
  });

export const badName = (name: string): Failure =>
  new Failure({
    code: 'bad_name',
    what: `guest name ${JSON.stringify(name)}`,
    why: 'a name has 1 to 63 letters, digits, dots, underscores and hyphens, and is not . or ..',
    hint: 'choose another name',
    exit: EXIT.usage,
  });

export const portTaken = (name: string, port: number, by: string): Failure =>
  new Failure({
    code: 'port_taken',
    what: `creating guest ${name}`,
    why: `port ${port.toString()} or the one after it is guest ${by}'s`,
    hint: 'choose another port',
    exit: EXIT.failed,
  });

export const lineTaken = (name: string, path: string, by: string): Failure =>
  new Failure({
    code: 'line_taken',
    what: `creating guest ${name}`,
    why: `${path} is guest ${by}'s`,
    hint: 'name each line once',
    exit: EXIT.failed,
  });

export const noDevices = (name: string, why: string): Failure =>
  new Failure({
    code: 'no_device',
    what: `making a TPM device for guest ${name}`,
    why,
    hint: "load the kernel module: 'modprobe tpm_vtpm_proxy' (CONFIG_TCG_VTPM_PROXY); 'tpmux guest attach' shows other ways",
    exit: EXIT.unsupported,
  });

export const shuttingDown = (): Failure =>
  new Failure({
    code: 'shutting_down',
    what: 'the daemon',
    why: 'it is shutting down',
    hint: 'try again when it runs',
    exit: EXIT.unreachable,
  });
