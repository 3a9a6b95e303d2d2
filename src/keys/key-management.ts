import { hkdfSync } from 'node:crypto';
import { TPM_RH } from '../tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../tpm/structures/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { openPrivate, sealPrivate } from './blob.js';
import type { KeyEngine, PrivatePart } from './engine.js';
import type { SoftwareEngine } from './software.js';

/** Where a new key is to live, by its hierarchy (`TPM_RH_*`; undefined: any) and type (`TPM_ALG_*`). */
export type ChooseEngine = (hierarchy: number | undefined, type: number) => 'hardware' | 'anchored' | 'software';

/** What {@link KeyManagement} needs. */
export interface KeyManagementParts {
  readonly hardware: KeyEngine;
  /** Needed where {@link choose} may say so. */
  readonly anchored?: KeyEngine | undefined;
  readonly software: SoftwareEngine;
  /** 32 bytes from the guest's state key; what protects all `TPM2B_PRIVATE` of the guest. */
  readonly blobKey: Buffer;
  /** Default: hardware. */
  readonly choose?: ChooseEngine | undefined;
}

/** The keys of one guest: which engine holds a key, and what `TPM2B_PRIVATE` holds. */
export class KeyManagement {
  readonly software: SoftwareEngine;
  /** 32 bytes that protect the guest's state where it leaves the store. */
  readonly stateBlobKey: Buffer;
  private readonly hardware: KeyEngine;
  /** Keys that never leave the chip. */
  private readonly anchored: KeyEngine | undefined;
  private readonly blobKey: Buffer;
  private readonly choose: ChooseEngine;

  constructor(parts: KeyManagementParts) {
    this.hardware = parts.hardware;
    this.anchored = parts.anchored;
    this.software = parts.software;
    this.blobKey = parts.blobKey;
    this.choose = parts.choose ?? (() => 'hardware');
    this.stateBlobKey = Buffer.from(hkdfSync('sha256', parts.blobKey, Buffer.alloc(0), 'tpmux state blob', 32));
  }

  /**
   * The engine for a new key in a hierarchy (undefined: in any): software for the NULL hierarchy and where the guest's policy wants it;
   * otherwise the chip if it can hold the key, or else software.
   */
  engineFor(publicArea: TPMT_PUBLIC, hierarchy?: number): KeyEngine {
    const choice = hierarchy === TPM_RH.NULL ? 'software' : this.choose(hierarchy, publicArea.type);
    if (choice === 'software' || !this.hardware.supports(publicArea)) return this.software;
    if (choice === 'hardware') return this.hardware;
    // Its root is made with the guest.
    if (this.anchored === undefined) throw new TpmError(TPM_RC.FAILURE);
    return this.anchored;
  }

  /** As {@link engineFor}, for a key that comes from outside: it is not anchored, as it has been elsewhere. */
  importEngineFor(publicArea: TPMT_PUBLIC, hierarchy: number): KeyEngine {
    const engine = this.engineFor(publicArea, hierarchy);
    return engine === this.anchored ? this.hardware : engine;
  }

  /** The private part of an object from its engine's tag and what the engine serialized. */
  restore(engineId: number, publicArea: TPMT_PUBLIC, serialized: Buffer): PrivatePart {
    for (const engine of [this.hardware, this.anchored, this.software])
      if (engine?.id === engineId) return engine.restore(publicArea, serialized);
    throw new TpmError(TPM_RC.INTEGRITY);
  }

  /** Contents of the `TPM2B_PRIVATE` of an object, bound to its Name and its parent's. */
  wrap(object: { name: Buffer; authValue: Buffer; privatePart: PrivatePart }, parentName: Buffer): Buffer {
    const { name, authValue, privatePart } = object;
    const serialized = privatePart.serialize();
    return sealPrivate(this.blobKey, { engineId: privatePart.engineId, authValue, serialized }, name, parentName);
  }

  /** Opens a `TPM2B_PRIVATE`. `TPM_RC_INTEGRITY` if it is not ours, or not of this object under this parent. */
  unwrap(blob: Buffer, publicArea: TPMT_PUBLIC, name: Buffer, parentName: Buffer): { authValue: Buffer; privatePart: PrivatePart } {
    const { engineId, authValue, serialized } = openPrivate(this.blobKey, blob, name, parentName);
    return { authValue, privatePart: this.restore(engineId, publicArea, serialized) };
  }
}
