// Names of handles and parameters: the compiler takes those of the command alone, and errors carry their numbers.
import assert from 'node:assert/strict';
import { commandTable, Quote, type ECDH_ZGen, type Load } from '../../../src/tpm/commands/index.js';
import { TPM_RC, TpmError } from '../../../src/tpm/response-code.js';
import { Call } from '../../../src/vtpm/dispatch/call.js';
import type { Handler } from '../../../src/vtpm/dispatch/handler.js';

function needsSigner(_call: Call<'signHandle', 'inScheme'>): void {
  // Its type is all that matters.
}

/** Every one of these names is right, or marked as an error that the compiler must find. */
const quote: Handler<typeof Quote> = (_tpm, { qualifyingData }, call) => {
  call.object('signHandle');
  call.error(1, 'inScheme');
  call.at('PCRselect', () => qualifyingData);
  needsSigner(call);
  // @ts-expect-error -- no handle of this command
  call.object('keyHandle');
  // @ts-expect-error -- a parameter is no handle
  call.entity('inScheme');
  // @ts-expect-error -- misspelled
  call.error(1, 'inSceme');
  // @ts-expect-error -- a parameter of another command
  call.at('inPublic', () => undefined);
  throw new Error('never called');
};

const zGen: Handler<typeof ECDH_ZGen> = (_tpm, request, call) => {
  // @ts-expect-error -- this command has no such handle or parameter
  needsSigner(call);
  // @ts-expect-error -- no parameter of this command
  throw new Error(`never called: ${String(request.outPoint)}`);
};

// @ts-expect-error -- the response has a handle and a Name
const load: Handler<typeof Load> = () => ({ name: Buffer.alloc(0) });

describe('the call of a command', () => {
  it('places errors at handles and parameters by their names, for every command', () => {
    for (const command of commandTable.values()) {
      const call = new Call<string, string>(command, 0, [], [], new Map());
      command.handleList.forEach(([name], i) => {
        assert.equal(call.error(TPM_RC.VALUE, name).code, TPM_RC.VALUE + 0x100 * (i + 1), `${command.name} ${name}`);
      });
      command.inList.forEach(([name], i) => {
        assert.equal(call.error(TPM_RC.VALUE, name).code, TPM_RC.VALUE + 0x40 + 0x100 * (i + 1), `${command.name} ${name}`);
        assert.throws(
          () => call.at(name, () => assert.fail(new TpmError(TPM_RC.SIZE))),
          (error) => error instanceof TpmError && error.code === TPM_RC.SIZE + 0x40 + 0x100 * (i + 1),
        );
      });
    }
  });

  it('has the names of its command only', () => {
    // What the compiler has checked of these is in their bodies.
    for (const handler of [quote, zGen, load]) assert.equal(typeof handler, 'function');
    const call = new Call<'signHandle', 'inScheme'>(Quote, 0, [], [], new Map());
    assert.throws(() => call.object('signHandle'), /Quote has no handle signHandle/, 'no entity was given');
  });
});
