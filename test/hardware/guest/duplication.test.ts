// The premise of migration: the guest's root alone goes to another chip, and all keys below it work there.
import assert from 'node:assert/strict';
import type { Turn } from '../../../src/hardware/turns/turn.js';
import { ChipError } from '../../../src/hardware/chip/errors.js';
import { GuestChip } from '../../../src/hardware/guest/guest-chip.js';
import type { GuestKeyBlobs, Hardware } from '../../../src/hardware/hardware.js';
import { guestKeyPublic, migrationPolicyRef } from '../../../src/hardware/host/templates.js';
import { HardwareEngine } from '../../../src/keys/hardware-engine.js';
import {
  Duplicate,
  Import,
  LoadExternal,
  PolicyAuthorize,
  PolicyDuplicationSelect,
  PolicyGetDigest,
  Sign,
  StartAuthSession,
  VerifySignature,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_RH, TPM_SE, TPM_ST } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { nameOfHandle } from '../../../src/tpm/name.js';
import { TPM_RC } from '../../../src/tpm/response-code.js';
import { decode } from '../../../src/tpm/schema.js';
import { TPMT_PUBLIC } from '../../../src/tpm/structures/index.js';
import { Bench, ECDSA_SHA256, EMPTY, eccTemplate, NO_CIPHER, nodeKey, rsaTemplate, signs, inTurn } from '../fixture.js';
import { sealTemplate } from '../../support/templates.js';

const AES = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB } as const;

async function startPolicy(turn: Turn): Promise<number> {
  const session = {
    tpmKey: TPM_RH.NULL,
    bind: TPM_RH.NULL,
    nonceCaller: Buffer.alloc(32, 7),
    encryptedSalt: EMPTY,
    sessionType: TPM_SE.POLICY,
    symmetric: NO_CIPHER,
    authHash: TPM_ALG.SHA256,
  } as const;
  return (await turn.execute(StartAuthSession, session)).sessionHandle;
}

describe('duplication of a guest root', () => {
  let source: Bench;
  let target: Bench;
  let from: Hardware;
  let to: Hardware;
  let identity: GuestKeyBlobs;

  before(async () => {
    [source, target] = [await Bench.start(), await Bench.start()];
    [from, to] = [await source.open(), await target.open()];
    identity = await from.createGuestKeys('wanderer');
  });
  after(async () => {
    await source.stop();
    await target.stop();
  });

  /** Duplicates the root to `to`, or to nobody and in clear, authorized for `guestId`. */
  const duplicate = async (guestId: string, inClear = false) => {
    const newParentName = inClear ? nameOfHandle(TPM_RH.NULL) : to.hostRoot.name;
    const { migrationAuthority } = from;
    const policyRef = migrationPolicyRef(guestId);
    return await inTurn(from, async (turn) => {
      const session = await startPolicy(turn);
      try {
        const root = from.guestRoot(identity);
        const select = { policySession: session, objectName: root.name, newParentName, includeObject: 1 } as const;
        await turn.execute(PolicyDuplicationSelect, select);
        const { policyDigest } = await turn.execute(PolicyGetDigest, { policySession: session });
        const approvedPolicy = Buffer.from(policyDigest);
        const digest = hash(TPM_ALG.SHA256, approvedPolicy, policyRef);
        const ticket = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: EMPTY } as const;
        const checkTicket = await turn.use(migrationAuthority, async (keyHandle) => {
          const names = [migrationAuthority.name];
          const request = { keyHandle, digest, inScheme: ECDSA_SHA256, validation: ticket };
          const { signature } = await turn.execute(Sign, request, { names });
          return (await turn.execute(VerifySignature, { keyHandle, digest, signature }, { names })).validation;
        });
        const authorize = { policySession: session, approvedPolicy, policyRef, keySign: migrationAuthority.name, checkTicket };
        await turn.execute(PolicyAuthorize, authorize);
        return await turn.use(root, async (objectHandle) => {
          const load = { inPrivate: null, inPublic: to.hostRoot.publicArea, hierarchy: TPM_RH.OWNER };
          const { objectHandle: loaded } = await turn.execute(LoadExternal, load);
          const newParentHandle = inClear ? TPM_RH.NULL : loaded;
          try {
            return await turn.execute(
              Duplicate,
              { objectHandle, newParentHandle, encryptionKeyIn: EMPTY, symmetricAlg: inClear ? NO_CIPHER : AES },
              {
                names: [root.name, newParentName],
                authorizations: [
                  { kind: 'policy', handle: session },
                  { kind: 'session', authValue: undefined },
                ],
              },
            );
          } finally {
            await turn.flush(loaded);
          }
        });
      } finally {
        await turn.flush(session).catch(() => undefined);
      }
    });
  };

  it('moves every key, what is sealed and the state key with it', async () => {
    const here = await from.openGuest(identity, 'wanderer');
    const make = async (template: Parameters<typeof guestKeyPublic>[1]) => {
      const blobs = await here.chip.create(guestKeyPublic(here.chip.rootPublic, template));
      return { publicArea: decode(TPMT_PUBLIC, blobs.publicArea), privateBlob: blobs.privateBlob };
    };
    const ecc = await make(eccTemplate());
    const rsa = await make(rsaTemplate(0x40000));
    const silent = { warn: (): void => undefined };
    const sealed = await new HardwareEngine(here.chip, silent).create({ publicArea: sealTemplate(), sensitiveData: Buffer.from('sealed') });

    const { duplicate: blob, outSymSeed, encryptionKeyOut } = await duplicate('wanderer');
    const rootPublic = decode(TPMT_PUBLIC, identity.rootPublic);
    const { outPrivate } = await inTurn(to, (turn) =>
      turn.execute(
        Import,
        {
          parentHandle: to.hostRoot.handle,
          encryptionKey: encryptionKeyOut,
          objectPublic: rootPublic,
          duplicate: blob,
          inSymSeed: outSymSeed,
          symmetricAlg: AES,
        },
        { names: [to.hostRoot.name] },
      ),
    );

    const there = await to.openGuest({ ...identity, rootPrivate: Buffer.from(outPrivate) }, 'wanderer');
    assert.deepEqual(there.stateKey, here.stateKey);
    assert.ok(there.chip instanceof GuestChip);
    const opened = new HardwareEngine(there.chip, silent).restore(sealed.publicArea, sealed.privatePart.serialize());
    assert.deepEqual(await opened.secret(), await sealed.privatePart.secret());
    assert.ok(await signs(there.chip, { key: there.chip.key(ecc.publicArea, ecc.privateBlob), publicKey: nodeKey(ecc.publicArea) }));
    const rsaKey = there.chip.key(rsa.publicArea, rsa.privateBlob);
    const scheme = { scheme: TPM_ALG.RSASSA, details: { hashAlg: TPM_ALG.SHA256 } } as const;
    assert.equal((await there.chip.sign(rsaKey, Buffer.alloc(32, 1), scheme)).sigAlg, TPM_ALG.RSASSA);
  });

  it('is refused when another guest is authorized', async () => {
    await assert.rejects(duplicate('somebody else'), (error: unknown) => error instanceof ChipError && error.base === TPM_RC.POLICY_FAIL);
  });

  it('is refused without encryption, even with the policy: the root says encryptedDuplication', async () => {
    const refused: number[] = [TPM_RC.HIERARCHY, TPM_RC.SYMMETRIC];
    await assert.rejects(duplicate('wanderer', true), (error: unknown) => error instanceof ChipError && refused.includes(error.base));
  });
});
