import { EXIT, Failure } from '../../failure.js';

/** A request that the API cannot take. */
export function badRequest(why: string): Failure {
  return new Failure({
    code: 'bad_request',
    what: 'request to the daemon',
    why,
    hint: 'use a tpmux command of the same version',
    exit: EXIT.usage,
  });
}
