// Canceling commands: what is canceled is answered at once and has no effect.
import assert from 'node:assert/strict';
import { Account } from '../../../src/hardware/chip/usage.js';
import { KeyManagement } from '../../../src/keys/key-management.js';
import type { CreateRequest } from '../../../src/keys/engine.js';
import { SoftwareEngine } from '../../../src/keys/software.js';
import { CreatePrimary, GetCapability, PCR_Extend, PCR_Read } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CAP, TPM_RH, TPMA_SESSION } from '../../../src/tpm/constants/index.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { codeOf, frame, none, parse } from '../../support/frames.js';
import { ClientSession, execWithSessions } from '../../support/sessions.js';
import { asParent, eccTemplate } from '../../support/templates.js';
import { openTestTpm, type TestTpm } from '../../support/vtpm.js';
import { settled, waitFor } from '../../support/wait-for.js';

/** An engine that takes as long as the test wants. */
class SlowEngine extends SoftwareEngine {
  begun = 0;
  created = 0;
  /** Keys that were disposed of. */
  disposed = 0;
  release: () => void = () => undefined;
  private open: Promise<void> = Promise.resolve();

  /** Creates nothing until {@link release} is called. */
  stall(): void {
    this.open = new Promise((resolve) => {
      this.release = resolve;
    });
  }

  protected override async make(request: CreateRequest): ReturnType<SoftwareEngine['make']> {
    this.begun++;
    await this.open;
    this.created++;
    const made = await super.make(request);
    const dispose = made.privatePart.dispose.bind(made.privatePart);
    made.privatePart.dispose = (): void => {
      this.disposed++;
      dispose();
    };
    return made;
  }
}

const primary = {
  primaryHandle: TPM_RH.OWNER,
  inSensitive: { userAuth: none, data: none },
  inPublic: asParent(eccTemplate()),
  outsideInfo: none,
  creationPCR: [],
};
const transient = frame(GetCapability, { capability: TPM_CAP.HANDLES, property: 0x80000000, propertyCount: 100 });
const extend = frame(PCR_Extend, { pcrHandle: 16, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] });
const read = frame(PCR_Read, { pcrSelectionIn: [{ hash: TPM_ALG.SHA256, pcrSelect: Buffer.from('000001', 'hex') }] });

describe('a canceled command', () => {
  let engine: SlowEngine;
  let test: TestTpm;
  beforeEach(async () => {
    const account = new Account('test');
    engine = new SlowEngine(undefined, () => account.signal);
    engine.stall();
    const keys = new KeyManagement({ hardware: engine, software: new SoftwareEngine(), blobKey: Buffer.alloc(32, 1) });
    test = await openTestTpm({ keys, account });
  });
  afterEach(() => {
    assert.deepEqual(test.failures, []);
  });

  /** Cancels once the engine works, and gives what is answered while it still does. */
  const canceled = async (answer: Promise<Buffer>): Promise<number> => {
    await waitFor(() => engine.begun === 1);
    test.tpm.cancel();
    const code = codeOf(await answer);
    assert.equal(engine.created, 0);
    return code;
  };

  it('is answered at once while the key engine works, and leaves no object', async () => {
    const handles = await test.execute(transient);
    assert.equal(await canceled(test.execute(frame(CreatePrimary, primary))), TPM_RC.CANCELED);
    assert.deepEqual(await test.execute(transient), handles);
    engine.release();
    await waitFor(() => engine.created === 1);
    await settled();
    assert.deepEqual(await test.execute(transient), handles);
    // The key was not remembered: the same template makes another.
    assert.equal(codeOf(await test.execute(frame(CreatePrimary, primary))), TPM_RC.SUCCESS);
    assert.equal(engine.created, 2);
  });

  it('does not keep the next command waiting', async () => {
    await canceled(test.execute(frame(CreatePrimary, primary)));
    assert.equal(codeOf(await test.execute(extend)), TPM_RC.SUCCESS);
    assert.equal(engine.created, 0);
  });

  it('is not executed if it waited', async () => {
    const before = await test.execute(read);
    const first = test.execute(frame(CreatePrimary, primary));
    const second = test.execute(extend);
    assert.equal(await canceled(second), TPM_RC.CANCELED);
    assert.equal(codeOf(await first), TPM_RC.CANCELED);
    assert.deepEqual(await test.execute(read), before);
  });

  it('leaves the nonces of its sessions as they were', async () => {
    const session = await ClientSession.start(test.execute);
    const use = { session, attributes: TPMA_SESSION.continueSession };
    const { nonceTPM } = session;
    const answer = execWithSessions(test.execute, CreatePrimary, primary, [use]);
    await waitFor(() => engine.begun === 1);
    test.tpm.cancel();
    assert.equal((await answer).code, TPM_RC.CANCELED);
    assert.equal(session.nonceTPM, nonceTPM);
    engine.release();
    assert.equal((await execWithSessions(test.execute, CreatePrimary, primary, [use])).code, TPM_RC.SUCCESS);
  });

  it('may be over: canceling when nothing runs does nothing to the next command', async () => {
    engine.release();
    test.tpm.cancel();
    const made = parse(CreatePrimary, await test.execute(frame(CreatePrimary, primary)));
    assert.equal(made.code, TPM_RC.SUCCESS);
    test.tpm.cancel();
    assert.equal(codeOf(await test.execute(extend)), TPM_RC.SUCCESS);
  });

  it('disposes of a key that is made too late', async () => {
    await canceled(test.execute(frame(CreatePrimary, primary)));
    assert.equal(engine.disposed, 0);
    engine.release();
    await waitFor(() => engine.disposed === 1);
    await settled();
    assert.equal(engine.disposed, 1);
  });
});
