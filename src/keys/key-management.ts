import { hkdfSync } from 'node:crypto';
import type { TPMT_PUBLIC } from '../tpm/structures/index.js';
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import { openPrivate, sealPrivate } from './blob.js';
import { Cancellation, cancellableEngine, cancellableSoftware } from './cancellation.js';
import type { KeyEngine, PrivatePart } from './engine.js';
import type { SoftwareEngine } from './software.js';

/** The keys of one guest: which engine holds a key, and what `TPM2B_PRIVATE` holds. */
export class KeyManagement {
  readonly software: SoftwareEngine;
  /** For the guest's command that runs: what it waits for can be given up. */
  readonly cancellation = new Cancellation();
  /** 32 bytes that protect the guest's state where it leaves the store. */
  readonly stateBlobKey: Buffer;
  private readonly hardware: KeyEngine;
  private readonly blobKey: Buffer;

  /** @param blobKey 32 bytes from the guest's state key; what protects all `TPM2B_PRIVATE` of the guest */
  constructor(parts: { hardware: KeyEngine; software: SoftwareEngine; blobKey: Buffer }) {
    this.hardware = cancellableEngine(parts.hardware, this.cancellation);
    this.software = cancellableSoftware(parts.software, this.cancellation);
    this.blobKey = parts.blobKey;
    this.stateBlobKey = Buffer.from(hkdfSync('sha256', parts.blobKey, Buffer.alloc(0), 'tpmux state blob', 32));
  }

  /** The engine for a new key that outlives a reset: the chip where it can hold the key, otherwise software. */
  engineFor(publicArea: TPMT_PUBLIC): KeyEngine {
    return this.hardware.supports(publicArea) ? this.hardware : this.software;
  }

  /** The private part of an object from its engine's tag and what the engine serialised. */
  restore(engineId: number, publicArea: TPMT_PUBLIC, serialized: Buffer): PrivatePart {
    for (const engine of [this.hardware, this.software]) if (engine.id === engineId) return engine.restore(publicArea, serialized);
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
