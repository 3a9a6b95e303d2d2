import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { TPM_RH, TPM_ST } from '../../../src/tpm/constants/index.js';
import { KeyManagement } from '../../../src/keys/key-management.js';
import { SoftwareEngine } from '../../../src/keys/software.js';
import { defaultLimits } from '../../../src/vtpm/limits.js';
import { authTicket, creationTicket, hashCheckTicket, isTicketValid, verifiedTicket } from '../../../src/vtpm/signing/tickets.js';
import { Tpm } from '../../../src/vtpm/tpm.js';
import { MemoryRecords } from '../../support/vtpm.js';

function makeTpm(): Tpm {
  const software = new SoftwareEngine();
  const keys = new KeyManagement({ hardware: software, software, blobKey: randomBytes(32) });
  return new Tpm({ records: new MemoryRecords(), keys, limits: defaultLimits });
}

const [digest, name, none] = [Buffer.alloc(32, 1), Buffer.alloc(34, 2), Buffer.alloc(0)];
const { OWNER, ENDORSEMENT, PLATFORM, NULL } = TPM_RH;

describe('tickets', () => {
  let tpm: Tpm;
  beforeEach(() => {
    tpm = makeTpm();
  });

  it('are the same for the same facts, and SHA-256 long', () => {
    for (const make of [
      () => hashCheckTicket(tpm, OWNER, digest),
      () => verifiedTicket(tpm, OWNER, digest, name),
      () => creationTicket(tpm, NULL, name, digest),
      () => authTicket(tpm, TPM_ST.AUTH_SIGNED, NULL, 5n, true, digest, none, name),
    ]) {
      assert.equal(make().digest.length, 32);
      assert.ok(isTicketValid(make(), make()));
    }
  });

  it('are bound to the hierarchy and its proof', () => {
    const ticket = verifiedTicket(tpm, OWNER, digest, name);
    for (const hierarchy of [ENDORSEMENT, PLATFORM]) {
      const other = verifiedTicket(tpm, hierarchy, digest, name);
      assert.ok(!isTicketValid(other, ticket));
      assert.ok(!isTicketValid(other, { ...ticket, hierarchy }));
    }
    tpm.hierarchies.renew(tpm.hierarchies.owner);
    assert.ok(!isTicketValid(verifiedTicket(tpm, OWNER, digest, name), ticket));
  });

  it('are for one purpose', () => {
    const content = creationTicket(tpm, OWNER, name, digest);
    assert.ok(!isTicketValid(verifiedTicket(tpm, OWNER, digest, name), { ...content, tag: TPM_ST.VERIFIED }));
    const signed = authTicket(tpm, TPM_ST.AUTH_SIGNED, OWNER, 0n, false, none, none, name);
    const secret = authTicket(tpm, TPM_ST.AUTH_SECRET, OWNER, 0n, false, none, none, name);
    assert.ok(!isTicketValid(secret, { ...signed, tag: TPM_ST.AUTH_SECRET }));
  });

  it('keep their fields apart', () => {
    const make = (cpHashA: string, policyRef: string): ReturnType<typeof authTicket> =>
      authTicket(tpm, TPM_ST.AUTH_SECRET, OWNER, 0n, false, Buffer.from(cpHashA), Buffer.from(policyRef), name);
    assert.ok(!isTicketValid(make('ab', 'c'), make('a', 'bc')));
  });

  it('are never valid where they are empty', () => {
    for (const ticket of [
      hashCheckTicket(tpm, NULL, digest),
      verifiedTicket(tpm, NULL, digest, name),
      verifiedTicket(tpm, OWNER, digest, none),
    ]) {
      assert.deepEqual([ticket.hierarchy, ticket.digest.length], [NULL, 0]);
      assert.ok(!isTicketValid(ticket, ticket));
    }
  });

  it('end with the epoch of Time, and at a reset where they say so', () => {
    const make = (timeout: bigint, expiresOnReset: boolean): ReturnType<typeof authTicket> =>
      authTicket(tpm, TPM_ST.AUTH_SECRET, OWNER, timeout, expiresOnReset, none, none, name);
    const [timed, onReset, endless] = [make(9n, false), make(9n, true), make(0n, false)];
    tpm.clock.totalResetCount++;
    assert.ok(isTicketValid(make(9n, false), timed));
    assert.ok(!isTicketValid(make(9n, true), onReset));
    tpm.clock.epoch++;
    assert.ok(!isTicketValid(make(9n, false), timed));
    assert.ok(isTicketValid(make(0n, false), endless));
  });
});
