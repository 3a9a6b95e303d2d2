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

export const shuttingDown = (): Failure =>
  new Failure({
    code: 'shutting_down',
    what: 'the daemon',
    why: 'it is shutting down',
    hint: 'try again when it runs',
    exit: EXIT.unreachable,
  });
