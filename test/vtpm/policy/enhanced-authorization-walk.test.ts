// Policy commands in random order, to a vTPM and a swtpm: codes and policy digests are the same.
import {
  NV_DefineSpace,
  NV_Write,
  PCR_Extend,
  PolicyAuthorize,
  PolicyAuthorizeNV,
  PolicyAuthValue,
  PolicyCommandCode,
  PolicyCounterTimer,
  PolicyCpHash,
  PolicyDuplicationSelect,
  PolicyGetDigest,
  PolicyLocality,
  PolicyNameHash,
  PolicyNV,
  PolicyNvWritten,
  PolicyOR,
  PolicyPassword,
  PolicyPCR,
  PolicyPhysicalPresence,
  PolicyRestart,
  PolicySecret,
  PolicyTemplate,
  StartAuthSession,
} from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_EO, TPM_RH, TPM_SE, TPM_ST, TPMA_CC, TPMA_NV } from '../../../src/tpm/constants/index.js';
import { digestSize, hash } from '../../../src/tpm/hash.js';
import { servedCommands } from '../../../src/vtpm/handlers.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { frame, none, password } from '../../support/frames.js';
import { Choices, runSeed } from '../../support/random-walk.js';

const STEPS = 1500;
const SESSION = 0x03000000;
const ORDINARY = 0x01500000;
const POLICY_INDEX = 0x01500001;
const UNWRITTEN = 0x01500002;
const noCipher = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const commandCodes = [
  ...[...servedCommands.keys()].filter((code) => (code & TPMA_CC.commandIndex) < 0x5000),
  0,
  0x1ff,
  0x20000000,
  TPM_CC.FieldUpgradeStart,
];

class PolicyWalk {
  private readonly pair: Differential;
  private readonly choose: Choices;
  private alg: typeof TPM_ALG.SHA1 | typeof TPM_ALG.SHA256 | typeof TPM_ALG.SHA512 = TPM_ALG.SHA256;
  private digest = none;
  private isTrial = false;

  constructor(pair: Differential, seed: number) {
    this.pair = pair;
    this.choose = new Choices(seed);
  }

  async start(): Promise<void> {
    await this.define(ORDINARY, 40);
    await this.define(POLICY_INDEX, 66);
    await this.define(UNWRITTEN, 8);
    await this.pair.code(NV_Write, { authHandle: ORDINARY, nvIndex: ORDINARY, data: this.choose.bytes(40), offset: 0 });
    await this.restart();
  }

  async step(number: number): Promise<void> {
    const what = `step ${number.toString()}`;
    if (this.choose.once(12)) await this.restart();
    if (this.choose.once(40)) await this.pair.same(this.extend(), 0, what);
    if (this.choose.once(8)) await this.approve();
    const command = this.command();
    await this.pair.same(command, 0, `${what}: ${command.toString('hex')}`);
    this.digest = Buffer.from((await this.pair.runSame(PolicyGetDigest, { policySession: SESSION })).policyDigest);
  }

  private async define(nvIndex: number, dataSize: number): Promise<void> {
    const attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA;
    const publicInfo = { nvIndex, nameAlg: TPM_ALG.SHA256, attributes, authPolicy: none, dataSize };
    await this.pair.code(NV_DefineSpace, { authHandle: TPM_RH.OWNER, auth: none, publicInfo });
  }

  /** A new session, of another kind perhaps. The flush is FlushContext by hand: its handle is a parameter. */
  private async restart(): Promise<void> {
    const { choose } = this;
    await this.pair.both(Buffer.from('80010000000e0000016503000000', 'hex'));
    this.alg = choose.of(TPM_ALG.SHA1, TPM_ALG.SHA256, TPM_ALG.SHA512);
    const sessionType = choose.of(TPM_SE.POLICY, TPM_SE.POLICY, TPM_SE.TRIAL);
    this.isTrial = sessionType === TPM_SE.TRIAL;
    const request = {
      tpmKey: TPM_RH.NULL,
      bind: TPM_RH.NULL,
      nonceCaller: Buffer.alloc(16),
      encryptedSalt: none,
      sessionType,
      symmetric: noCipher,
    };
    await this.pair.run(StartAuthSession, { ...request, authHash: this.alg });
    this.digest = Buffer.alloc(digestSize(this.alg));
  }

  private extend(): Buffer {
    const digests = [{ hashAlg: TPM_ALG.SHA256, digest: this.choose.bytes(32) }];
    return frame(PCR_Extend, { pcrHandle: this.choose.of(0, 7, 16, 23), digests });
  }

  /** Makes the session's policy, or something near it, the one that PolicyAuthorizeNV finds. */
  private async approve(): Promise<void> {
    const alg = Buffer.alloc(2);
    alg.writeUInt16BE(this.choose.of(this.alg, this.alg, this.alg, TPM_ALG.SHA1, TPM_ALG.SHA384, 0x1234));
    const data = Buffer.concat([alg, this.choose.of(this.digest, this.digest, this.choose.bytes(64))]);
    await this.pair.code(NV_Write, { authHandle: POLICY_INDEX, nvIndex: POLICY_INDEX, data, offset: 0 });
  }

  private size(): number {
    const right = digestSize(this.alg);
    return this.choose.of(right, right, right, right, 0, 20, 32, 64);
  }

  /** One of a few digests, so that they repeat; those of different kinds begin differently. */
  private few(kind: number): Buffer {
    return Buffer.alloc(this.size(), kind + this.choose.below(2));
  }

  private command(): Buffer {
    const { choose } = this;
    const policySession = SESSION;
    const session = { policySession };
    const few = this.few(0x10);
    switch (choose.below(22)) {
      case 0:
        return frame(PolicyOR, { ...session, pHashList: [few, choose.of(this.digest, few), choose.bytes(20)].slice(choose.below(3)) });
      case 1:
      case 2:
        return this.policyPcr();
      case 3:
        return frame(PolicyLocality, { ...session, locality: choose.of(0, 1, 3, 0x1f, 0x10, 0x0c, 31, 32, 32, 33, 255) });
      case 4:
      case 5:
        return this.policyNv();
      case 6:
        return this.policyCounterTimer();
      case 7:
        return frame(PolicyCommandCode, { ...session, code: choose.of(...commandCodes) });
      case 8:
        return frame(PolicyPhysicalPresence, session);
      case 9:
        return frame(PolicyCpHash, { ...session, cpHashA: few });
      case 10:
        return frame(PolicyNameHash, { ...session, nameHash: this.few(0x20) });
      case 11:
        return frame(PolicyDuplicationSelect, {
          ...session,
          objectName: few,
          newParentName: choose.bytes(34),
          includeObject: choose.of(0, 1),
        });
      case 12:
        return frame(choose.of(PolicyAuthValue, PolicyPassword), session);
      case 13:
        return frame(PolicyNvWritten, { ...session, writtenSet: choose.of(0, 1) });
      case 14:
        return frame(PolicyTemplate, { ...session, templateHash: this.few(0x30) });
      case 15:
      case 16:
        return frame(PolicyAuthorizeNV, {
          authHandle: POLICY_INDEX,
          nvIndex: choose.of(POLICY_INDEX, POLICY_INDEX, POLICY_INDEX, UNWRITTEN),
          policySession,
        });
      case 17:
      case 18:
        // A cpHash over a template is taken in a trial session; swtpm has both then.
        return this.policySecret(this.isTrial ? none : few);
      case 19:
        return this.policyAuthorize();
      case 20:
        return choose.once(3) ? frame(PolicyRestart, { sessionHandle: SESSION }) : frame(PolicyGetDigest, session);
      default:
        return frame(PolicyGetDigest, { policySession: choose.of(SESSION, SESSION + 1) });
    }
  }

  private policyPcr(): Buffer {
    const { choose } = this;
    const bank = (): typeof TPM_ALG.SHA1 | typeof TPM_ALG.SHA256 => choose.of(TPM_ALG.SHA1, TPM_ALG.SHA256);
    const pcrs = Array.from({ length: choose.of(0, 1, 1, 2, 4) }, () => ({
      hash: bank(),
      pcrSelect: Buffer.of(choose.below(256), 0, choose.below(256)),
    }));
    const pcrDigest = choose.of(none, none, none, choose.bytes(32), hash(this.alg));
    return frame(PolicyPCR, { policySession: SESSION, pcrDigest, pcrs });
  }

  private policyNv(): Buffer {
    const { choose } = this;
    const nvIndex = choose.of(ORDINARY, ORDINARY, ORDINARY, UNWRITTEN);
    const operandB = choose.of(none, Buffer.alloc(8), choose.bytes(1), choose.bytes(8), choose.bytes(33));
    const operations = Object.values(TPM_EO).filter((eo) => operandB.length > 0 || !signed.includes(eo));
    const operation = choose.of(...operations);
    const authHandle = choose.of<number>(nvIndex, nvIndex, TPM_RH.OWNER, TPM_RH.PLATFORM, POLICY_INDEX);
    return frame(PolicyNV, { authHandle, nvIndex, policySession: SESSION, operandB, offset: choose.of(0, 1, 8, 32, 40, 41), operation });
  }

  /** Of the values only those are compared that both have in common. */
  private policyCounterTimer(): Buffer {
    const { choose } = this;
    const [operandB, operation] = choose.of(
      [Buffer.alloc(8), TPM_EO.UNSIGNED_GE],
      [Buffer.alloc(4), TPM_EO.UNSIGNED_GE],
      [Buffer.alloc(26), TPM_EO.EQ],
      [Buffer.alloc(3, 0xff), TPM_EO.UNSIGNED_GT],
      [none, TPM_EO.EQ],
    );
    return frame(PolicyCounterTimer, { policySession: SESSION, operandB, offset: choose.of(0, 8, 16, 20, 24, 25, 26, 0xffff), operation });
  }

  private policySecret(cpHashA: Buffer): Buffer {
    const { choose } = this;
    const authHandle = choose.of<number>(
      TPM_RH.OWNER,
      TPM_RH.PLATFORM,
      TPM_RH.ENDORSEMENT,
      TPM_RH.LOCKOUT,
      TPM_RH.NULL,
      ORDINARY,
      UNWRITTEN,
      0,
      20,
    );
    const values = {
      authHandle,
      policySession: SESSION,
      nonceTPM: choose.of(none, none, choose.bytes(16)),
      cpHashA,
      policyRef: choose.bytes(choose.below(3)),
    };
    // A negative expiration gives a ticket, which is not the same on both sides.
    return frame(PolicySecret, { ...values, expiration: choose.of(0, 0, 1000) }, [password(choose.once(20) ? 'wrong' : '')]);
  }

  private policyAuthorize(): Buffer {
    const { choose } = this;
    const alg = Buffer.alloc(2);
    alg.writeUInt16BE(choose.of(TPM_ALG.SHA256, TPM_ALG.SHA1, TPM_ALG.NULL, 0x1234));
    const keySign = choose.of(none, Buffer.of(0), Buffer.concat([alg, choose.bytes(32)]), Buffer.concat([alg, choose.bytes(20)]));
    const digest = choose.of(none, choose.bytes(64));
    const hierarchy = choose.of(TPM_RH.OWNER, TPM_RH.NULL, TPM_RH.PLATFORM);
    const checkTicket = { tag: TPM_ST.VERIFIED, hierarchy, digest };
    return frame(PolicyAuthorize, {
      policySession: SESSION,
      approvedPolicy: choose.of(this.digest, none),
      policyRef: choose.bytes(choose.below(3)),
      keySign,
      checkTicket,
    });
  }
}

/** Of operands of no bytes, swtpm takes their signs from whatever lies there. */
const signed: readonly TPM_EO[] = [TPM_EO.SIGNED_GE, TPM_EO.SIGNED_GT, TPM_EO.SIGNED_LE, TPM_EO.SIGNED_LT];

describe('policy commands in random order', () => {
  for (const seed of [1, runSeed]) {
    it(`give what swtpm gives (walk ${seed.toString()})`, async () => {
      const pair = await startDifferential();
      try {
        const walk = new PolicyWalk(pair, seed);
        await walk.start();
        for (let i = 0; i < STEPS; i++) await walk.step(i);
      } finally {
        await pair.stop();
      }
    });
  }
});
