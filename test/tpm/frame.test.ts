import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MAX_COMMAND_SIZE, TPM_ST } from '../../src/tpm/constants/index.js';
import {
  authorizationArea,
  decodeResponse,
  encodeCommand,
  encodeResponse,
  errorResponse,
  frameCode,
  frameSize,
  hasAuthorizations,
  HEADER_SIZE,
  openCommand,
  responseCode,
} from '../../src/tpm/frame.js';
import { TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import { ResponseForged } from '../../src/tpm/response-error.js';
import { TPMS_AUTH_COMMAND } from '../../src/tpm/structures/index.js';
import { Reader } from '../../src/tpm/wire.js';

const uint32 = fc.nat(0xffffffff);
const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value));
const attributes = fc.nat(0xff).map((value) => value & 0xe7);
const sessionHandle = fc.constantFrom(0x40000009, 0x02000000, 0x03000002);
const authorization = fc.record({ nonce: bytes(64), sessionAttributes: attributes, hmac: bytes(64) }, { noNullPrototype: true });
const commandAuthorization = fc
  .tuple(sessionHandle, authorization)
  .map(([handle, rest]): TPMS_AUTH_COMMAND => ({ sessionHandle: handle, ...rest }));

function codeThrown(action: () => unknown): number {
  try {
    action();
  } catch (error) {
    if (error instanceof TpmError) return error.code;
    throw error;
  }
  return TPM_RC.SUCCESS;
}

/** What {@link encodeCommand} was given, from its frame. */
function takeApart(frame: Buffer, handleCount: number) {
  const reader = openCommand(frame);
  const handles = Array.from({ length: handleCount }, () => reader.uint32());
  const authorizations: TPMS_AUTH_COMMAND[] = [];
  if (hasAuthorizations(frame)) {
    const area = new Reader(authorizationArea(reader));
    while (area.remaining > 0) authorizations.push(TPMS_AUTH_COMMAND.decode(area));
  }
  return { code: frameCode(frame), handles, authorizations, parameters: reader.view(reader.remaining) };
}

describe('frames', () => {
  it('give a command back as it went in', () => {
    fc.assert(
      fc.property(
        uint32,
        fc.array(uint32, { maxLength: 3 }),
        fc.array(commandAuthorization, { maxLength: 3 }),
        bytes(2000),
        (code, handles, authorizations, parameters) => {
          const frame = encodeCommand(code, handles, authorizations, parameters);
          assert.equal(frameSize(frame), frame.length);
          assert.deepEqual(takeApart(frame, handles.length), { code, handles, authorizations, parameters });
        },
      ),
    );
  });

  it('give a response back as it went in', () => {
    fc.assert(
      fc.property(
        fc.option(uint32, { nil: undefined }),
        bytes(2000),
        fc.array(authorization, { maxLength: 3 }),
        (handle, parameters, authorizations) => {
          const frame = encodeResponse(handle, parameters, authorizations);
          assert.equal(responseCode('X', frame), TPM_RC.SUCCESS);
          const expected = { handle, parameters, authorizations };
          assert.deepEqual(decodeResponse('X', frame, handle !== undefined, authorizations.length), expected);
          assert.deepEqual(decodeResponse('X', frame, handle !== undefined), expected);
        },
      ),
    );
  });

  it('give an error back', () => {
    fc.assert(
      fc.property(uint32, (code) => {
        assert.equal(responseCode('X', errorResponse(code)), code);
      }),
    );
    assert.equal(errorResponse(TPM_RC.RETRY).toString('hex'), '80010000000a00000922');
  });

  it('of commands have the bytes of the specification', () => {
    const password = { sessionHandle: 0x40000009, nonce: Buffer.alloc(0), sessionAttributes: 0, hmac: Buffer.from('pw') };
    const frame = encodeCommand(0x15e, [0x80000000], [password], Buffer.of(1, 2));
    assert.equal(
      frame.toString('hex'),
      '8002' + '0000001f' + '0000015e' + '80000000' + '0000000b' + '40000009' + '0000' + '00' + '00027077' + '0102',
    );
    assert.equal(encodeCommand(0x144, [], [], Buffer.of(0, 0)).toString('hex'), '80010000000c000001440000');
  });

  it('of commands are refused with the code for what is wrong with the header', () => {
    const good = encodeCommand(0x144, [], [], Buffer.of(0, 0));
    for (let size = 0; size < HEADER_SIZE; size++)
      assert.equal(
        codeThrown(() => openCommand(good.subarray(0, size))),
        TPM_RC.INSUFFICIENT,
      );
    const changed = (change: (frame: Buffer) => void): number => {
      const frame = Buffer.from(good);
      change(frame);
      return codeThrown(() => openCommand(frame));
    };
    assert.equal(
      changed((frame) => frame.writeUInt16BE(TPM_ST.NULL)),
      TPM_RC.BAD_TAG,
    );
    for (const size of [0, 11, 13, 0xffffffff])
      assert.equal(
        changed((frame) => frame.writeUInt32BE(size, 2)),
        TPM_RC.COMMAND_SIZE,
      );
    const large = (size: number): Buffer => encodeCommand(0x144, [], [], Buffer.alloc(size - HEADER_SIZE));
    assert.equal(
      codeThrown(() => openCommand(large(MAX_COMMAND_SIZE))),
      TPM_RC.SUCCESS,
    );
    assert.equal(
      codeThrown(() => openCommand(large(MAX_COMMAND_SIZE + 1))),
      TPM_RC.COMMAND_SIZE,
    );
  });

  it('of commands are refused if the authorization area cannot be one', () => {
    const area = (size: number, content: number): number => {
      const bytes = Buffer.alloc(4 + content);
      bytes.writeUInt32BE(size);
      return codeThrown(() => authorizationArea(new Reader(bytes)));
    };
    assert.equal(area(9, 9), TPM_RC.SUCCESS);
    assert.equal(area(9, 20), TPM_RC.SUCCESS);
    for (const [size, content] of [
      [8, 9],
      [0, 9],
      [10, 9],
      [0xffffffff, 9],
    ] as const)
      assert.equal(area(size, content), TPM_RC.SIZE);
    assert.equal(
      codeThrown(() => authorizationArea(new Reader(Buffer.alloc(3)))),
      TPM_RC.INSUFFICIENT,
    );
  });

  it('of responses that are anything else are not genuine', () => {
    const answer = { nonce: Buffer.alloc(32), sessionAttributes: 1, hmac: Buffer.alloc(32) };
    const frame = encodeResponse(undefined, Buffer.of(0, 1, 7), [answer]);
    for (let size = 0; size < frame.length; size++) {
      const cut = Buffer.from(frame.subarray(0, size));
      assert.throws(() => responseCode('X', cut), ResponseForged);
      if (size < HEADER_SIZE) continue;
      cut.writeUInt32BE(size, 2);
      assert.equal(responseCode('X', cut), TPM_RC.SUCCESS);
      assert.throws(() => decodeResponse('X', cut, false, 1), ResponseForged);
    }
    assert.throws(() => decodeResponse('X', frame, false, 0), /wrong tag/);
    assert.throws(() => decodeResponse('X', frame, false, 2), /not as many sessions/);
    assert.throws(() => decodeResponse('X', errorResponse(0), false, 1), /wrong tag/);
    assert.throws(() => decodeResponse('X', errorResponse(0), true, 0), /too short/);
  });
});
