// TPM 2.0 Library Part 1, 13 (hierarchies) and 14 (primary seeds).
import { randomBytes } from 'node:crypto';
import { TPM_ALG, TPM_RH } from '../../tpm/constants/index.js';
import { type Infer, struct, tpm2b, uint8, uint16 } from '../../tpm/schema.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { DurableState } from './durable.js';

/** Bytes of a hierarchy's seed and of its proof. */
const SECRET_SIZE = 64;

/** One hierarchy, or the lockout "hierarchy", which has authorizations only. */
export interface Hierarchy {
  readonly handle: number;
  /** Without trailing zeros. */
  authValue: Buffer;
  /** Hash algorithm of {@link policy}; TPM_ALG_NULL if there is none. */
  policyAlg: number;
  policy: Buffer;
  /** The secret that primary keys are memoized under. */
  seed: Buffer;
  /** The secret that tickets and saved contexts are bound to. */
  proof: Buffer;
  enabled: boolean;
}

const RECORD_KEY = 'hierarchies';
const entry = struct({ authValue: tpm2b(64), policyAlg: uint16, policy: tpm2b(64), seed: tpm2b(64), proof: tpm2b(64) });
const record = struct({ version: uint8, owner: entry, endorsement: entry, platform: entry, lockout: entry, disableClear: uint8 });
/** What Shutdown(STATE) keeps of the hierarchies besides the durable part. */
export const savedHierarchies = struct({
  platformAuth: tpm2b(64),
  platformPolicyAlg: uint16,
  platformPolicy: tpm2b(64),
  ownerEnabled: uint8,
  endorsementEnabled: uint8,
  platformNvEnabled: uint8,
  nullSeed: tpm2b(64),
  nullProof: tpm2b(64),
});
export type SavedHierarchies = Infer<typeof savedHierarchies>;
const untilPowerOff = section('hierarchies', struct({ saved: savedHierarchies, platformEnabled: uint8 }));

function fresh(handle: number): Hierarchy {
  return {
    handle,
    authValue: Buffer.alloc(0),
    policyAlg: TPM_ALG.NULL,
    policy: Buffer.alloc(0),
    seed: randomBytes(SECRET_SIZE),
    proof: randomBytes(SECRET_SIZE),
    enabled: true,
  };
}

/** Owner, endorsement, platform, null and lockout of one vTPM. */
export class Hierarchies implements StateModule {
  readonly owner = fresh(TPM_RH.OWNER);
  readonly endorsement = fresh(TPM_RH.ENDORSEMENT);
  readonly platform = fresh(TPM_RH.PLATFORM);
  readonly lockout = fresh(TPM_RH.LOCKOUT);
  readonly null = fresh(TPM_RH.NULL);
  /** TPM2_ClearControl: lockout and platform may not clear. */
  disableClear = false;
  /** phEnableNV: NV indices that the platform made may be used. */
  platformNvEnabled = true;
  private readonly durable: DurableState;

  constructor(durable: DurableState) {
    this.durable = durable;
  }

  /** The hierarchy with this handle; undefined for any other handle. */
  find(handle: number): Hierarchy | undefined {
    switch (handle) {
      case TPM_RH.OWNER:
        return this.owner;
      case TPM_RH.ENDORSEMENT:
        return this.endorsement;
      case TPM_RH.PLATFORM:
        return this.platform;
      case TPM_RH.LOCKOUT:
        return this.lockout;
      case TPM_RH.NULL:
        return this.null;
      default:
        return undefined;
    }
  }

  /** As {@link find} for a handle whose type was checked before. */
  get(handle: number): Hierarchy {
    return this.find(handle) ?? this.null;
  }

  /** Reads what is durable; a new TPM gets new secrets, durable with the next commit. */
  async load(): Promise<void> {
    const saved = await this.durable.load(RECORD_KEY, record);
    if (saved === undefined) {
      this.changed();
      return;
    }
    for (const name of ['owner', 'endorsement', 'platform', 'lockout'] as const) {
      const { authValue, policyAlg, policy, seed, proof } = saved[name];
      Object.assign(this[name], { authValue, policyAlg, policy, seed, proof });
    }
    this.disableClear = saved.disableClear !== 0;
  }

  /** Records a change of a durable value. */
  changed(): void {
    const { owner, endorsement, platform, lockout } = this;
    this.durable.put(RECORD_KEY, record, { version: 1, owner, endorsement, platform, lockout, disableClear: this.disableClear ? 1 : 0 });
  }

  /** New seed and proof for a hierarchy: its objects and tickets are of no use from now on. */
  renew(hierarchy: Hierarchy): void {
    hierarchy.seed = randomBytes(SECRET_SIZE);
    this.renewProof(hierarchy);
  }

  /** New proof for a hierarchy: its tickets and saved contexts are of no use from now on. */
  renewProof(hierarchy: Hierarchy): void {
    hierarchy.proof = randomBytes(SECRET_SIZE);
  }

  /** Startup(CLEAR): hierarchies are enabled and platform authorizations are gone; on a TPM reset the null hierarchy is a new one. */
  startupClear(reset: boolean): void {
    this.owner.enabled = true;
    this.endorsement.enabled = true;
    this.platform.enabled = true;
    this.platformNvEnabled = true;
    this.platform.authValue = Buffer.alloc(0);
    this.platform.policyAlg = TPM_ALG.NULL;
    this.platform.policy = Buffer.alloc(0);
    if (reset) this.renew(this.null);
  }

  /** For Shutdown(STATE). */
  save(): SavedHierarchies {
    return {
      platformAuth: this.platform.authValue,
      platformPolicyAlg: this.platform.policyAlg,
      platformPolicy: this.platform.policy,
      ownerEnabled: Number(this.owner.enabled),
      endorsementEnabled: Number(this.endorsement.enabled),
      platformNvEnabled: Number(this.platformNvEnabled),
      nullSeed: this.null.seed,
      nullProof: this.null.proof,
    };
  }

  writeSections(writer: SectionWriter): void {
    const { owner, endorsement, platform } = this;
    writer.one(untilPowerOff, () => ({ saved: this.save(), platformEnabled: Number(platform.enabled) }), [
      platform.authValue,
      platform.policyAlg,
      platform.policy,
      platform.enabled,
      owner.enabled,
      endorsement.enabled,
      this.platformNvEnabled,
      this.null.seed,
      this.null.proof,
    ]);
  }

  readSections(reader: SectionReader): void {
    const { saved, platformEnabled } = reader.one(untilPowerOff);
    this.restore(saved, true);
    this.platform.enabled = platformEnabled !== 0;
  }

  /** For a startup after Shutdown(STATE). `resume` is Startup(STATE), otherwise Startup(CLEAR). */
  restore(saved: SavedHierarchies, resume: boolean): void {
    this.null.seed = Buffer.from(saved.nullSeed);
    this.null.proof = Buffer.from(saved.nullProof);
    this.platform.enabled = true;
    if (!resume) return;
    this.platform.authValue = Buffer.from(saved.platformAuth);
    this.platform.policyAlg = saved.platformPolicyAlg;
    this.platform.policy = Buffer.from(saved.platformPolicy);
    this.owner.enabled = saved.ownerEnabled !== 0;
    this.endorsement.enabled = saved.endorsementEnabled !== 0;
    this.platformNvEnabled = saved.platformNvEnabled !== 0;
  }
}
