// Keys that a policy anchors: below a root that never leaves the chip, whatever the guest's attributes allow.
import assert from 'node:assert/strict';
import { createHash, verify } from 'node:crypto';
import { decodeKeyBlobs, encodeKeyBlobs } from '../../src/guests/key-blobs.js';
import { ChipError } from '../../src/hardware/chip/errors.js';
import type { GuestKeyBlobs, Hardware, OpenGuest } from '../../src/hardware/hardware.js';
import { deriveBlobKey } from '../../src/keys/blob.js';
import { ANCHORED_ENGINE_ID, HARDWARE_ENGINE_ID, HardwareEngine } from '../../src/keys/hardware-engine.js';
import { KeyManagement } from '../../src/keys/key-management.js';
import { SoftwareEngine } from '../../src/keys/software.js';
import { GuestPolicy } from '../../src/policy/guest-policy.js';
import { parsePolicy } from '../../src/policy/policy-file.js';
import { Duplicate, Import } from '../../src/tpm/commands/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { TPM_ALG, TPM_RH, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { Bench, eccTemplate, ECDSA_SHA256, EMPTY, nodeKey, p1363, rsaTemplate } from '../hardware/fixture.js';
import { duplicateSession, free, noCipher, parentTemplate, primary } from '../support/duplication.js';
import { expectCode, none, password, run } from '../support/frames.js';
import { eccTemplate as guestEcc } from '../support/templates.js';
import { openTestTpm } from '../support/vtpm.js';

const policy = new GuestPolicy(parsePolicy('p', 'version: 1\nkeys: {anchored: [owner], platform: software}'));

describe('anchored keys', () => {
  let bench: Bench;
  let other: Bench;
  let hardware: Hardware;
  let identity: GuestKeyBlobs;
  let guest: OpenGuest;
  const message = Buffer.from('a message');
  const digest = createHash('sha256').update(message).digest();

  function keysOf({ chip, anchored, stateKey }: OpenGuest): KeyManagement {
    assert.ok(anchored !== undefined);
    return new KeyManagement({
      hardware: new HardwareEngine(chip, bench.log),
      anchored: new HardwareEngine(anchored, bench.log),
      software: new SoftwareEngine(),
      blobKey: deriveBlobKey(stateKey),
      choose: (hierarchy, type) => policy.engineFor(hierarchy, type),
    });
  }

  before(async () => {
    [bench, other] = [await Bench.start(), await Bench.start()];
    hardware = await bench.open();
    identity = await hardware.createGuestKeys('guest', true);
    guest = await hardware.openGuest(identity, 'guest');
  });
  after(async () => {
    await bench.stop();
    await other.stop();
  });

  it('are fixed in the chip, and work like others', async () => {
    const keys = keysOf(guest);
    for (const template of [eccTemplate(TPMA_OBJECT.sign), rsaTemplate(TPMA_OBJECT.decrypt)]) {
      const engine = keys.engineFor(template, TPM_RH.OWNER);
      assert.equal(engine.id, ANCHORED_ENGINE_ID);
      const { publicArea, privatePart } = await engine.create({ publicArea: template, sensitiveData: EMPTY });
      const again = keys.restore(privatePart.engineId, publicArea, privatePart.serialize());
      if (template.type !== TPM_ALG.ECC) continue;
      const signature = p1363(await again.sign(digest, ECDSA_SHA256), 32);
      assert.ok(verify('sha256', message, { key: nodeKey(publicArea), dsaEncoding: 'ieee-p1363' }, signature));
    }
    assert.ok(((guest.anchored?.rootPublic.objectAttributes ?? 0) & TPMA_OBJECT.fixedTPM) !== 0);
    assert.equal(keys.engineFor(eccTemplate(), TPM_RH.ENDORSEMENT).id, HARDWARE_ENGINE_ID);
    assert.equal(keys.engineFor(eccTemplate(), TPM_RH.PLATFORM).id, keys.software.id);
  });

  it('are in the key blobs, which outlive a restart and a new sealing of the state key', async () => {
    const stored = decodeKeyBlobs('guest', encodeKeyBlobs(identity));
    assert.deepEqual(stored.anchored, identity.anchored);
    assert.equal((JSON.parse(encodeKeyBlobs(identity).toString()) as { version: number }).version, 3);
    assert.deepEqual((await hardware.resealGuest(stored, 'guest')).anchored, identity.anchored);
    assert.equal((await hardware.createGuestKeys('plain')).anchored, undefined);
  });

  it('are of no use in another chip', async () => {
    const elsewhere = await other.open();
    const foreign = { ...(await elsewhere.createGuestKeys('guest')), anchored: identity.anchored };
    const { anchored } = await elsewhere.openGuest(foreign, 'guest');
    assert.ok(anchored !== undefined);
    await assert.rejects(anchored.create(anchored.rootPublic), ChipError);
  });

  it('do not leave when the guest duplicates them; imported ones do', async () => {
    const { execute } = await openTestTpm({ keys: keysOf(guest), account: guest.account });
    const anchored = await primary(execute, free(guestEcc()));
    const request = { objectHandle: anchored.handle, newParentHandle: TPM_RH.NULL, encryptionKeyIn: none, symmetricAlg: noCipher };
    await expectCode(execute, TPM_RC.ATTRIBUTES, Duplicate, request, await duplicateSession(execute));
    const parent = await primary(execute, parentTemplate('ecc'));
    const outside = await openTestTpm();
    const leaving = await primary(outside.execute, free(guestEcc()));
    const away = { ...request, objectHandle: leaving.handle };
    const { duplicate } = await run(outside.execute, Duplicate, away, await duplicateSession(outside.execute));
    const imported = {
      parentHandle: parent.handle,
      encryptionKey: none,
      objectPublic: leaving.publicArea,
      duplicate,
      inSymSeed: none,
      symmetricAlg: noCipher,
    };
    await run(execute, Import, imported, [password()]);
  });
});
