// Linux's trusted keys (security/keys/trusted-keys/trusted_tpm2.c): of what TPM2_Create answers, and of the file in ASN.1 that it
// makes of that, the kernel takes at most MAX_BLOB_SIZE bytes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Hardware } from '../../src/hardware/hardware.js';
import { Create, EvictControl, FlushContext, Load, PolicyPassword, Unseal } from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_RS, TPM_SE, TPM_ST, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { policyDigest } from '../../src/tpm/policy-digest.js';
import { encode } from '../../src/tpm/schema.js';
import { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { none, parse, password, run } from '../support/frames.js';
import { createPrimary, flush } from '../support/primary-keys.js';
import { ClientSession, runWithSessions } from '../support/sessions.js';
import { asParent, eccTemplate } from '../support/templates.js';
import type { TestTpm } from '../support/vtpm.js';

const MAX_BLOB_SIZE = 512;
/** Sequence, object identifier, "emptyAuth", handle of the parent, heads of two octet strings. */
const ASN1_OVERHEAD = 4 + 8 + 5 + 7 + 4 + 4;
/** TPM_DIGEST_SIZE of the kernel: authorization values and passwords are that long. */
const AUTH_SIZE = 20;
const PARENT = 0x81000001;
const POLICY = policyDigest([[PolicyPassword, {}]], TPM_ALG.SHA256);

const u16 = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);
const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
const sized = (bytes: Buffer): Buffer => Buffer.concat([u16(bytes.length), bytes]);

/** The command of tpm2_seal_trusted: `key` with its flag, for the parent without a password. */
function sealCommand(userAuth: Buffer, key: Buffer, policy: Buffer): Buffer {
  const attributes = policy.length > 0 ? 0 : TPMA_OBJECT.userWithAuth;
  const authorization = Buffer.concat([u32(TPM_RS.PW), u16(0), Buffer.of(0), sized(Buffer.alloc(AUTH_SIZE))]);
  const publicArea = [u16(TPM_ALG.KEYEDHASH), u16(TPM_ALG.SHA256), u32(attributes), sized(policy), u16(TPM_ALG.NULL), u16(0)];
  const body = Buffer.concat([
    u32(PARENT),
    u32(authorization.length),
    authorization,
    sized(Buffer.concat([sized(userAuth), sized(key)])),
    sized(Buffer.concat(publicArea)),
    u16(0),
    u32(0),
  ]);
  return Buffer.concat([u16(TPM_ST.SESSIONS), u32(10 + body.length), u32(TPM_CC.Create), body]);
}

describe('a trusted key of Linux', () => {
  let bench: Bench;
  let hardware: Hardware;
  let guest: TestTpm;

  before(async () => {
    bench = await Bench.start();
    hardware = await bench.open();
    guest = await openChipGuest(hardware, 'linux');
    const root = await createPrimary(guest.execute, asParent(eccTemplate(TPM_ECC_CURVE.NIST_P256)));
    await run(guest.execute, EvictControl, { auth: TPM_RH.OWNER, objectHandle: root.handle, persistentHandle: PARENT });
    await flush(guest.execute, root.handle);
  });
  after(() => bench.stop());

  for (const size of [32, 64, 128]) {
    for (const policy of [none, POLICY]) {
      const how = policy.length > 0 ? 'a policy' : 'a password';
      it(`of ${size.toString()} bytes with ${how} fits into what the kernel takes, and is unsealed`, async () => {
        const { execute } = guest;
        const auth = randomBytes(AUTH_SIZE);
        // Older kernels seal a flag behind the key; there is room for no more than 128 bytes.
        const key = randomBytes(Math.min(size + 1, 128));
        const answer = await execute(sealCommand(auth, key, policy));
        const { out, parameters } = parse(Create, answer);
        assert.ok(out, answer.toString('hex'));
        const file = out.outPrivate.length + 2 + encode(TPMT_PUBLIC, out.outPublic).length + 2 + ASN1_OVERHEAD;
        const limit = size === 64 ? 480 : MAX_BLOB_SIZE;
        assert.ok(parameters.length <= limit, `the answer has ${parameters.length.toString()} bytes`);
        assert.ok(file <= MAX_BLOB_SIZE, `the file has ${file.toString()} bytes`);

        const loaded = await run(execute, Load, { parentHandle: PARENT, inPrivate: out.outPrivate, inPublic: out.outPublic });
        const itemHandle = loaded.objectHandle;
        if (policy.length === 0) {
          assert.deepEqual((await run(execute, Unseal, { itemHandle }, [password(auth)])).outData, key);
        } else {
          const session = await ClientSession.start(execute, { type: TPM_SE.POLICY });
          await run(execute, PolicyPassword, { policySession: session.handle });
          const use = { session, auth, asPassword: true, attributes: 0 };
          assert.deepEqual(
            (await runWithSessions(execute, Unseal, { itemHandle }, [use], new Map([[itemHandle, loaded.name]]))).outData,
            key,
          );
        }
        await run(execute, FlushContext, { flushHandle: itemHandle });
      });
    }
  }
});
