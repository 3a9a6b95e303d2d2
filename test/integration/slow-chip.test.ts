// What needs no chip never waits for the chip: one guest keeps a slow chip busy, another goes on.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Hardware } from '../../src/hardware/hardware.js';
import type { HostStore } from '../../src/store/host-store.js';
import { openHostStore } from '../support/host-store.js';
import { TPM_ALG, TPM_CAP, TPM_CC, TPM_RH, TPM_SE, TPMA_NV, TPMA_OBJECT, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import * as Commands from '../../src/tpm/commands/index.js';
import type { TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import { Bench } from '../hardware/fixture.js';
import { openChipGuest } from '../support/chip-guest.js';
import { none, run } from '../support/frames.js';
import { commandCode } from '../support/relay.js';
import { aesCfb, ClientSession, runWithSessions } from '../support/sessions.js';
import { rsaTemplate } from '../support/templates.js';
import type { TestTpm } from '../support/vtpm.js';
import { waitFor } from '../support/wait-for.js';

/** How often each command is sent while the chip is at work. */
const ROUNDS = 50;

describe('a slow chip', () => {
  let bench: Bench;
  let hardware: Hardware;
  let busy: TestTpm;
  let other: TestTpm;
  let directory: string;
  let store: HostStore;
  let slow = false;

  before(async () => {
    bench = await Bench.start({ delay: (command) => (slow && commandCode(command) === TPM_CC.Create ? Infinity : 0) });
    hardware = await bench.open();
    directory = await mkdtemp(path.join(tmpdir(), 'tpmux-slow-'));
    store = await openHostStore(directory);
    busy = await openChipGuest(hardware, 'busy');
    const id = randomUUID();
    await store.addGuest(
      { id, name: 'other', created: new Date().toISOString(), policy: null, listen: {}, autostart: false },
      Buffer.alloc(0),
    );
    other = await openChipGuest(hardware, 'other', (stateKey) => store.guestRecords(id, stateKey));
  });
  after(async () => {
    await bench.stop();
    await store.close();
    await rm(directory, { recursive: true });
  });

  it('answers what needs no chip while another guest generates an RSA key', async () => {
    const { execute } = other;
    const attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
    const nvPublic = { nvIndex: 0x01500001, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize: 16 } as const;
    const on = { authHandle: TPM_RH.OWNER, nvIndex: nvPublic.nvIndex };
    await run(execute, Commands.NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo: nvPublic });
    const rsa: TPMT_PUBLIC = {
      ...rsaTemplate(2048),
      objectAttributes:
        TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
    };
    const request = {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic: rsa,
      outsideInfo: none,
      creationPCR: [],
    };
    slow = true;
    const generation = run(busy.execute, Commands.CreatePrimary, request);
    await waitFor(() => bench.relay.held === 1);
    const operations: Record<string, () => Promise<unknown>> = {
      PCR_Extend: () =>
        run(execute, Commands.PCR_Extend, { pcrHandle: 10, digests: [{ hashAlg: TPM_ALG.SHA256, digest: Buffer.alloc(32, 1) }] }),
      GetCapability: () =>
        run(execute, Commands.GetCapability, {
          capability: TPM_CAP.COMMANDS,
          property: TPM_CC.NV_UndefineSpaceSpecial,
          propertyCount: 200,
        }),
      GetRandom: () => run(execute, Commands.GetRandom, { bytesRequested: 32 }),
      'HMAC session': async () => {
        const session = await ClientSession.start(execute, { symmetric: aesCfb });
        await runWithSessions(execute, Commands.GetRandom, { bytesRequested: 8 }, [{ session, attributes: TPMA_SESSION.encrypt }]);
      },
      'policy session': async () => {
        const { handle } = await ClientSession.start(execute, { type: TPM_SE.POLICY });
        await run(execute, Commands.FlushContext, { flushHandle: handle });
      },
      NV_Write: () => run(execute, Commands.NV_Write, { ...on, data: Buffer.from('0123456789abcdef'), offset: 0 }),
      NV_Read: () => run(execute, Commands.NV_Read, { ...on, size: 16, offset: 0 }),
    };
    let running: string | undefined = 'nothing';
    const work = async (): Promise<void> => {
      for (let round = 0; round < ROUNDS; round++) {
        for (const [name, operation] of Object.entries(operations)) {
          running = name;
          await operation();
        }
      }
      running = undefined;
    };
    const answered = work();
    await Promise.race([
      answered,
      waitFor(
        () => running === undefined,
        () => `${running ?? ''} waits for the chip`,
      ),
    ]);
    assert.equal(bench.relay.held, 1, 'the chip is still at work');
    slow = false;
    bench.relay.release();
    assert.ok((await generation).objectHandle);
  });
});
