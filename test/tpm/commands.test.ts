import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import fc from 'fast-check';
import {
  type Command,
  commandAttributes,
  decodeHandles,
  decodeParameters,
  decodeResponseParameters,
  encodeParameters,
  type Request,
  type Response,
} from '../../src/tpm/command.js';
import * as commands from '../../src/tpm/commands/index.js';
import { commandName, MAX_CAP_CC, TPM_ALG, TPM_CAP, TPM_CC, TPM_RH, TPM_RS, TPM_ST, TPMA_CC } from '../../src/tpm/constants/index.js';
import { describeResponseCode, TPM_RC, TpmError } from '../../src/tpm/response-code.js';
import type { Shape } from '../../src/tpm/schema.js';
import { Reader } from '../../src/tpm/wire.js';
import { startSwtpm, type Swtpm } from '../support/swtpm.js';
import { arbitraryCommand, arbitraryOf } from './arbitrary.js';

const { commandTable } = commands;
const declarations = [...commandTable.values()];
const HEADER_BYTES = 10;
const PASSWORD = Buffer.from('40000009 0000 01 0000'.replaceAll(' ', ''), 'hex');

/** A connection that sends whole frames and waits for whole responses. */
class Connection {
  private constructor(private readonly socket: net.Socket) {}

  static async open(endpoint: Swtpm['data']): Promise<Connection> {
    const socket = net.connect(endpoint);
    await once(socket, 'connect');
    return new Connection(socket);
  }

  async send(frame: Buffer): Promise<{ code: number; body: Buffer }> {
    this.socket.write(frame);
    let received = Buffer.alloc(0);
    do {
      const [chunk] = (await once(this.socket, 'data')) as [Buffer];
      received = Buffer.concat([received, chunk]);
    } while (received.length < HEADER_BYTES || received.length < received.readUInt32BE(2));
    return { code: received.readUInt32BE(6), body: received.subarray(HEADER_BYTES) };
  }

  close(): void {
    this.socket.destroy();
  }
}

/** A frame; with the empty password for each handle that needs authorization. */
function frame(of: Command, handles: Buffer, parameters: Buffer): Buffer {
  const authorized = of.handleList.filter(([, field]) => field.role !== undefined).length;
  const area = Buffer.concat(Array.from({ length: authorized }, () => PASSWORD));
  const size = Buffer.alloc(4);
  size.writeUInt32BE(area.length);
  const body = Buffer.concat(authorized > 0 ? [handles, size, area, parameters] : [handles, parameters]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(authorized > 0 ? TPM_ST.SESSIONS : TPM_ST.NO_SESSIONS, 0);
  header.writeUInt32BE(HEADER_BYTES + body.length, 2);
  header.writeUInt32BE(of.code, 6);
  return Buffer.concat([header, body]);
}

function codeOf(run: () => unknown): number {
  try {
    run();
  } catch (error) {
    if (error instanceof TpmError) return error.code;
    throw error;
  }
  return TPM_RC.SUCCESS;
}

const uint32s = (...values: number[]): Buffer => {
  const buffer = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => buffer.writeUInt32BE(value, 4 * i));
  return buffer;
};

describe('command declarations', () => {
  it('cover every command code, under its name', () => {
    const known = new Set<number>(Object.values(TPM_CC));
    assert.deepEqual(new Set(commandTable.keys()), known);
    for (const declaration of declarations) {
      assert.equal(declaration.name, commandName(declaration.code));
      assert.equal((commands as Record<string, unknown>)[declaration.name], declaration);
      assert.match(declaration.section, /^(\d\d?|V)\.\d\d?$/);
    }
    assert.equal(new Set(declarations.map((each) => each.section)).size, declarations.length, 'sections are unique');
  });

  it('know what sessions can encrypt', () => {
    const can = (which: 'decryptable' | 'encryptable'): string[] => declarations.filter((each) => each[which]).map((each) => each.name);
    assert.equal(can('decryptable').length, 64);
    assert.equal(can('encryptable').length, 44);
    assert.ok(commands.Create.decryptable && commands.Create.encryptable);
    assert.ok(!commands.EncryptDecrypt.decryptable && commands.EncryptDecrypt.encryptable);
    assert.ok(!commands.PCR_Extend.decryptable && !commands.VerifySignature.encryptable);
  });

  it('give handlers the types of the specification', () => {
    const request: Request<typeof commands.Sign> = {
      keyHandle: 0x80000000,
      digest: Buffer.alloc(32),
      inScheme: { scheme: TPM_ALG.RSASSA, details: { hashAlg: TPM_ALG.SHA256 } },
      validation: { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) },
    };
    const response: Response<typeof commands.Load> = { objectHandle: 0x80000000, name: Buffer.alloc(34) };
    assert.equal(encodeParameters(commands.Sign.inList, request).length, 34 + 4 + 8);
    assert.equal(encodeParameters(commands.Load.outList, response).length, 36);
  });

  for (const declaration of declarations) {
    it(`${declaration.name}: requests and responses come back as they were`, () => {
      fc.assert(
        fc.property(arbitraryCommand(declaration), ({ handles, parameters }) => {
          const reader = new Reader(handles);
          assert.equal(decodeHandles(declaration, reader).length, declaration.handleList.length);
          assert.equal(reader.remaining, 0);
          const values = decodeParameters(declaration, parameters);
          assert.deepEqual(encodeParameters(declaration.inList, values), parameters);
        }),
        { numRuns: 20 },
      );
      fc.assert(
        fc.property(fc.tuple(...declaration.outList.map(([, schema]) => arbitraryOf(schema.shape))), (parts) => {
          const bytes = Buffer.concat(parts);
          assert.deepEqual(encodeParameters(declaration.outList, decodeResponseParameters(declaration, bytes)), bytes);
        }),
        { numRuns: 20 },
      );
    });

    it(`${declaration.name}: malformed parameters are a TpmError that says which`, () => {
      fc.assert(
        fc.property(arbitraryCommand(declaration), fc.nat(), fc.nat(255), fc.nat(), ({ parameters }, at, byte, cut) => {
          const changed = Buffer.from(parameters.subarray(0, parameters.length - (cut % (parameters.length + 1))));
          if (changed.length > 0) changed[at % changed.length] = byte;
          const code = codeOf(() => decodeParameters(declaration, changed));
          const index = (code & 0x40) !== 0 ? (code >> 8) & 0xf : 0;
          assert.ok(code === TPM_RC.SUCCESS || code === TPM_RC.SIZE || (index >= 1 && index <= declaration.inList.length));
        }),
        { numRuns: 20 },
      );
    });
  }
});

describe('command declarations against swtpm', () => {
  let swtpm: Swtpm;
  let connection: Connection;

  before(async () => {
    swtpm = await startSwtpm();
    connection = await Connection.open(swtpm.data);
  });
  after(async () => {
    connection.close();
    await swtpm.stop();
  });

  it('have the attributes that it lists', async () => {
    const parameters = encodeParameters(commands.GetCapability.inList, {
      capability: TPM_CAP.COMMANDS,
      property: 0,
      propertyCount: MAX_CAP_CC,
    });
    const { code, body } = await connection.send(frame(commands.GetCapability, Buffer.alloc(0), parameters));
    assert.equal(code, TPM_RC.SUCCESS);
    const response = decodeResponseParameters(commands.GetCapability, body) as Response<typeof commands.GetCapability>;
    assert.ok(response.capabilityData.capability === TPM_CAP.COMMANDS);
    const listed = response.capabilityData.data;
    assert.ok(listed.length > 100);
    for (const attributes of listed) {
      const declaration = commandTable.get(attributes & TPMA_CC.commandIndex);
      assert.ok(declaration !== undefined, `no declaration of ${attributes.toString(16)}`);
      assert.equal(commandAttributes(declaration).toString(16), attributes.toString(16), declaration.name);
    }
  });

  it('refuse handles with the same codes', async () => {
    const probes = [
      ...[0, 0x17, 0x18, 0x00ffffff, 0x01000000, 0x01ffffff, 0x02000000, 0x0200003f, 0x02000100, 0x03000000, 0x0300003f, 0x03000100],
      ...[0x40000000, ...Object.values(TPM_RH), TPM_RS.PW, 0x40000120, 0x7fffffff],
      ...[0x80000000, 0x80000002, 0x80000100, 0x80ffffff, 0x81000000, 0x81ffffff, 0x82000000, 0x90000000, 0xffffffff],
    ];
    let refused = 0;
    for (const declaration of declarations.filter(isServed)) {
      for (const [i] of declaration.handleList.entries()) {
        for (const probe of probes) {
          const handles = Buffer.concat(declaration.handleList.map(([, field]) => lowest(field.schema.shape)));
          handles.writeUInt32BE(probe, 4 * i);
          const ours = codeOf(() => decodeHandles(declaration, new Reader(handles)));
          if (ours === TPM_RC.SUCCESS) continue;
          const theirs = await connection.send(frame(declaration, handles, Buffer.alloc(0)));
          assert.equal(
            describeResponseCode(theirs.code),
            describeResponseCode(ours),
            `${declaration.name}, handle ${(i + 1).toString()}: ${probe.toString(16)}`,
          );
          refused++;
        }
      }
    }
    assert.ok(refused > 1000, refused.toString());
  });

  it('refuse parameters with the same codes', async () => {
    const policySession = await startTrialSession(connection);
    let refused = 0;
    for (const [declaration, handles] of reachable(policySession)) {
      for (const { parameters } of fc.sample(malformed(declaration), { numRuns: 150, seed: declaration.code })) {
        const ours = codeOf(() => decodeParameters(declaration, parameters));
        if (ours === TPM_RC.SUCCESS || isBeyondLibtpms(parameters)) continue;
        const theirs = await connection.send(frame(declaration, handles, parameters));
        assert.equal(describeResponseCode(theirs.code), describeResponseCode(ours), `${declaration.name} ${parameters.toString('hex')}`);
        refused++;
      }
    }
    assert.ok(refused > 2000, refused.toString());
  });
});

/** The lowest handle that a handle type allows. */
function lowest(shape: Shape): Buffer {
  assert.ok(shape.kind === 'integer');
  return uint32s(Math.min(...(shape.values ?? []), ...(shape.ranges ?? []).map(([first]) => first)));
}

/** libtpms names 0x155 and 0x15b MAC and MAC_Start, and leaves these and vendor commands out. */
function isServed(of: Command): boolean {
  const absent: number[] = [
    ...[TPM_CC.FieldUpgradeStart, TPM_CC.FieldUpgradeData, TPM_CC.FirmwareRead],
    ...[TPM_CC.AC_GetCapability, TPM_CC.AC_Send, TPM_CC.Policy_AC_SendSelect, TPM_CC.ACT_SetTimeout],
  ];
  return !absent.includes(of.code) && (of.code & TPMA_CC.V) === 0;
}

/** Whether something in there can be a handle that our structures carry and libtpms refuses. */
function isBeyondLibtpms(parameters: Buffer): boolean {
  return /0[23]0000[4-9a-f].|800000(0[3-9a-f]|[^0].)/.test(parameters.toString('hex'));
}

/** Commands whose parameters swtpm reads when they are sent with these handles and empty passwords. */
function reachable(policySession: number): [Command, Buffer][] {
  const none = Buffer.alloc(0);
  const of = (handles: Buffer, ...list: Command[]): [Command, Buffer][] => list.map((declaration) => [declaration, handles]);
  const { owner, platform, lockout } = { owner: TPM_RH.OWNER, platform: TPM_RH.PLATFORM, lockout: TPM_RH.LOCKOUT };
  return [
    ...of(none, commands.Shutdown, commands.SelfTest, commands.IncrementalSelfTest, commands.LoadExternal),
    ...of(none, commands.ECC_Parameters, commands.Hash, commands.GetRandom, commands.StirRandom, commands.HashSequenceStart),
    ...of(none, commands.EC_Ephemeral, commands.PCR_Read, commands.ContextLoad, commands.FlushContext),
    ...of(none, commands.GetCapability, commands.TestParms),
    ...of(uint32s(TPM_RH.NULL, TPM_RH.NULL), commands.StartAuthSession),
    ...of(uint32s(policySession), commands.PolicyTicket, commands.PolicyOR, commands.PolicyPCR, commands.PolicyLocality),
    ...of(uint32s(policySession), commands.PolicyCounterTimer, commands.PolicyCommandCode, commands.PolicyCpHash),
    ...of(uint32s(policySession), commands.PolicyNameHash, commands.PolicyDuplicationSelect, commands.PolicyAuthorize),
    ...of(uint32s(policySession), commands.PolicyNvWritten, commands.PolicyTemplate),
    ...of(uint32s(owner, policySession), commands.PolicySecret),
    ...of(uint32s(owner), commands.CreatePrimary, commands.NV_DefineSpace, commands.ClockSet, commands.ClockRateAdjust),
    ...of(uint32s(owner), commands.SetPrimaryPolicy, commands.HierarchyControl, commands.HierarchyChangeAuth),
    ...of(uint32s(owner), commands.SetCommandCodeAuditStatus, commands.CreateLoaded),
    ...of(uint32s(platform), commands.PCR_Allocate, commands.PCR_SetAuthPolicy, commands.SetAlgorithmSet),
    ...of(uint32s(lockout), commands.DictionaryAttackParameters, commands.ClearControl),
    ...of(uint32s(16), commands.PCR_Extend, commands.PCR_Event),
    ...of(uint32s(TPM_RH.NULL), commands.Quote),
    ...of(uint32s(TPM_RH.ENDORSEMENT, TPM_RH.NULL), commands.GetTime, commands.GetCommandAuditDigest),
  ];
}

/** Parameters with a byte or two changed, cut off or added. */
function malformed(of: Command): fc.Arbitrary<{ parameters: Buffer }> {
  const change = fc.record({ at: fc.nat(), to: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x10, 0x80, 0xff)) });
  return fc
    .tuple(arbitraryCommand(of), fc.array(change, { maxLength: 2 }), fc.integer({ min: -2, max: 40 }))
    .map(([{ parameters }, changes, cut]) => {
      const bytes = Buffer.from(cut > 20 ? parameters : Buffer.concat([parameters, Buffer.alloc(Math.max(0, -cut))]));
      for (const { at, to } of changes) if (bytes.length > 0) bytes[at % bytes.length] = to;
      return { parameters: cut > 0 && cut <= 20 ? bytes.subarray(0, Math.max(0, bytes.length - cut)) : bytes };
    });
}

async function startTrialSession(connection: Connection): Promise<number> {
  const parameters = encodeParameters(commands.StartAuthSession.inList, {
    nonceCaller: Buffer.alloc(16),
    encryptedSalt: Buffer.alloc(0),
    sessionType: 3,
    symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
    authHash: TPM_ALG.SHA256,
  });
  const { code, body } = await connection.send(frame(commands.StartAuthSession, uint32s(TPM_RH.NULL, TPM_RH.NULL), parameters));
  assert.equal(code, TPM_RC.SUCCESS);
  return body.readUInt32BE(0);
}
