// Hash, HMAC and sequences, side by side with swtpm.
import assert from 'node:assert/strict';
import {
  CreatePrimary,
  EventSequenceComplete,
  FlushContext,
  GetCapability,
  Hash,
  HashSequenceStart,
  HMAC,
  HMAC_Start,
  PCR_Read,
  SequenceComplete,
  SequenceUpdate,
} from '../../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_RH, TPMA_OBJECT, TPMA_SESSION } from '../../../../src/tpm/constants/index.js';
import { hmac } from '../../../../src/tpm/hash.js';
import { atHandle, TPM_RC } from '../../../../src/tpm/response-code.js';
import type { TPMT_PUBLIC } from '../../../../src/tpm/structures/index.js';
import { type Differential, startDifferential } from '../../../support/differential.js';
import { frame, none, parse, password, rawFrame, run } from '../../../support/frames.js';
import { aesCfb, ClientSession, runWithSessions } from '../../../support/sessions.js';
import { asParent, eccTemplate, hmacTemplate } from '../../../support/templates.js';
import { openTestTpm } from '../../../support/vtpm.js';

const { SHA1, SHA256, SHA384, SHA512 } = TPM_ALG;
const { OWNER, NULL, PLATFORM, ENDORSEMENT, LOCKOUT } = TPM_RH;
const generated = Buffer.from('ff544347', 'hex');
const FIRST = 0x80000000;
const text = Buffer.from('what is hashed');
const big = Buffer.alloc(1024, 0x5a);

describe('hashes, HMACs and sequences', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  afterEach(async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      for (const flushHandle of [FIRST, FIRST + 1, FIRST + 2]) await execute(frame(FlushContext, { flushHandle }));
    }
  });

  /** Both do it alike; a ticket is in both answers or in none, of the same hierarchy. */
  async function sameTicket(command: typeof Hash | typeof SequenceComplete, bytes: Buffer): Promise<boolean> {
    const { ours, theirs } = await both.both(bytes);
    const [mine, other] = [parse(command, ours), parse(command, theirs)].map(({ code, out }) => {
      if (out === undefined) return { code, isNull: true };
      const { validation, ...result } = out;
      return { code, ...result, tag: validation.tag, hierarchy: validation.hierarchy, isNull: validation.digest.length === 0 };
    });
    assert.deepEqual(mine, other, `${command.name} ${bytes.toString('hex')}`);
    return mine?.isNull === false;
  }

  async function primary(inPublic: TPMT_PUBLIC, data = none, userAuth = none): Promise<void> {
    await both.run(CreatePrimary, { primaryHandle: NULL, inSensitive: { userAuth, data }, inPublic, outsideInfo: none, creationPCR: [] });
  }
  const known = (scheme: TPMT_PUBLIC): TPMT_PUBLIC => ({
    ...scheme,
    objectAttributes: scheme.objectAttributes & ~TPMA_OBJECT.sensitiveDataOrigin,
  });

  it('Hash gives a ticket for what the TPM cannot have made', async () => {
    for (const hashAlg of [SHA1, SHA256, SHA384, SHA512] as const) {
      for (const data of [none, text, big, generated, Buffer.concat([generated, text]), generated.subarray(0, 3)]) {
        for (const hierarchy of [OWNER, ENDORSEMENT, PLATFORM, NULL]) {
          const signable = !data.subarray(0, 4).equals(generated) && hierarchy !== NULL;
          assert.equal(await sameTicket(Hash, frame(Hash, { data, hashAlg, hierarchy })), signable);
        }
      }
    }
    await both.code(Hash, { data: text, hashAlg: SHA256, hierarchy: LOCKOUT });
    for (const hex of ['', '0401', '000000100040000007', '00000012400000070']) {
      await both.sameCode(rawFrame(Hash.code, [], Buffer.from(hex, 'hex')));
    }
  });

  it('a hash sequence, in pieces, with tickets', async () => {
    for (const pieces of [
      [none],
      [text],
      [none, text],
      [generated.subarray(0, 2), text],
      [generated, text],
      [text, generated],
      [text, text, none],
      [big, big, big],
      [Buffer.of(1, 2, 3), text],
    ]) {
      for (const hashAlg of [SHA1, SHA512] as const) {
        await both.runSame(HashSequenceStart, { auth: Buffer.from('s\0'), hashAlg });
        const request = { sequenceHandle: FIRST };
        for (const buffer of pieces.slice(0, -1)) await both.runSame(SequenceUpdate, { ...request, buffer }, [password('s')]);
        const last = { ...request, buffer: pieces.at(-1) ?? none, hierarchy: OWNER };
        await both.code(SequenceComplete, last);
        await sameTicket(SequenceComplete, frame(SequenceComplete, last, [password('s')]));
        await both.same(frame(GetCapability, { capability: TPM_CAP.HANDLES, property: FIRST, propertyCount: 5 }));
      }
    }
  });

  it('a sequence in HMAC sessions with encryption is flushed only after the response', async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      const { sequenceHandle } = await run(execute, HashSequenceStart, { auth: Buffer.from('auth'), hashAlg: SHA256 });
      const names = new Map([[sequenceHandle, none]]);
      const session = await ClientSession.start(execute, { symmetric: aesCfb });
      const attributes = TPMA_SESSION.continueSession | TPMA_SESSION.decrypt;
      await runWithSessions(execute, SequenceUpdate, { sequenceHandle, buffer: text }, [{ session, auth: 'auth', attributes }], names);
      const request = { sequenceHandle, buffer: text, hierarchy: NULL };
      const use = { session, auth: 'auth', attributes: TPMA_SESSION.encrypt | TPMA_SESSION.decrypt };
      const { result } = await runWithSessions(execute, SequenceComplete, request, [use], names);
      assert.equal(result.length, 32);
    }
  });

  it('an event sequence extends a PCR', async () => {
    for (const pcrHandle of [10, 17, NULL, 23]) {
      await both.runSame(HashSequenceStart, { auth: none, hashAlg: TPM_ALG.NULL });
      await both.runSame(SequenceUpdate, { sequenceHandle: FIRST, buffer: text });
      await both.code(SequenceComplete, { sequenceHandle: FIRST, buffer: none, hierarchy: NULL });
      const bytes = frame(EventSequenceComplete, { pcrHandle, sequenceHandle: FIRST, buffer: text });
      await both.same(bytes);
      await both.same(bytes);
      for (const execute of [both.ours.execute, both.theirs.execute]) await execute(frame(FlushContext, { flushHandle: FIRST }));
    }
    await both.same(frame(PCR_Read, { pcrSelectionIn: [{ hash: SHA384, pcrSelect: Buffer.from('000480', 'hex') }] }));
    await both.runSame(HashSequenceStart, { auth: none, hashAlg: SHA256 });
    await both.code(EventSequenceComplete, { pcrHandle: 1, sequenceHandle: FIRST, buffer: none });
    await both.code(EventSequenceComplete, { pcrHandle: 1, sequenceHandle: FIRST, buffer: none }, [password()]);
  });

  it('HMAC and HMAC sequences with a key that both have', async () => {
    await primary(known(hmacTemplate()), Buffer.from('secret key'), Buffer.from('k'));
    for (const hashAlg of [TPM_ALG.NULL, SHA256, SHA1] as const) {
      for (const buffer of [none, text, big]) {
        const bytes = frame(HMAC, { handle: FIRST, buffer, hashAlg }, [password('k')]);
        const answer = await both.same(bytes);
        if (hashAlg === SHA1) assert.equal(answer.readUInt32BE(6), 0x2c4);
        else assert.deepEqual(answer.subarray(16, 48), hmac(SHA256, Buffer.from('secret key'), buffer));
      }
      await both.code(HMAC_Start, { handle: FIRST, auth: none, hashAlg });
      if ((await both.code(HMAC_Start, { handle: FIRST, auth: Buffer.from('seq'), hashAlg }, [password('k')])) !== 0) continue;
      await both.runSame(SequenceUpdate, { sequenceHandle: FIRST + 1, buffer: text }, [password('seq')]);
      await both.runSame(SequenceComplete, { sequenceHandle: FIRST + 1, buffer: big, hierarchy: OWNER }, [password('seq')]);
    }
  });

  it('an HMAC key without a scheme takes any hash', async () => {
    const parameters = { scheme: { scheme: TPM_ALG.NULL, details: null } } as const;
    await primary(
      known({ ...hmacTemplate(), parameters, objectAttributes: TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign | TPMA_OBJECT.decrypt }),
      big.subarray(0, 64),
    );
    for (const hashAlg of [TPM_ALG.NULL, SHA1, SHA256, SHA384, SHA512] as const) {
      await both.same(frame(HMAC, { handle: FIRST, buffer: text, hashAlg }));
      if ((await both.code(HMAC_Start, { handle: FIRST, auth: none, hashAlg })) !== 0) continue;
      await both.runSame(SequenceComplete, { sequenceHandle: FIRST + 1, buffer: text, hierarchy: OWNER });
    }
  });

  it('what is no HMAC key is refused', async () => {
    for (const inPublic of [
      asParent(eccTemplate()),
      { ...hmacTemplate(), objectAttributes: hmacTemplate().objectAttributes | TPMA_OBJECT.restricted },
      eccTemplate(),
    ]) {
      await primary(inPublic);
      await both.code(HMAC, { handle: FIRST, buffer: text, hashAlg: SHA256 });
      await both.code(HMAC_Start, { handle: FIRST, auth: none, hashAlg: SHA256 });
      await both.code(SequenceUpdate, { sequenceHandle: FIRST, buffer: text });
      await both.code(SequenceComplete, { sequenceHandle: FIRST, buffer: text, hierarchy: NULL });
      await both.code(EventSequenceComplete, { pcrHandle: 1, sequenceHandle: FIRST, buffer: text });
      for (const execute of [both.ours.execute, both.theirs.execute]) await execute(frame(FlushContext, { flushHandle: FIRST }));
    }
    await both.runSame(HashSequenceStart, { auth: none, hashAlg: SHA256 });
    assert.equal(await both.code(HMAC, { handle: FIRST, buffer: text, hashAlg: SHA256 }), atHandle(TPM_RC.TYPE, 1));
    await both.code(HMAC, { handle: FIRST + 1, buffer: text, hashAlg: SHA256 });
    await both.code(HMAC, { handle: NULL, buffer: text, hashAlg: SHA256 });
  });

  it('memory for sequences is limited', async () => {
    const { execute } = await openTestTpm({ limits: { loadedObjects: 3 } });
    const start = frame(HashSequenceStart, { auth: none, hashAlg: SHA256 });
    const codes: number[] = [];
    for (let i = 0; i < 4; i++) codes.push((await execute(start)).readUInt32BE(6));
    assert.deepEqual(codes, [0, 0, 0, TPM_RC.OBJECT_MEMORY]);
  });
});
