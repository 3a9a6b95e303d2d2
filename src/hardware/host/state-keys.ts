// TPM 2.0 Library Part 3, 12.7: state keys of guests, sealed by the chip below each guest's root.
import { Unseal } from '../../tpm/commands/index.js';
import { TPMA_OBJECT } from '../../tpm/constants/index.js';
import type { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import { createUnder, loadable } from './create-key.js';
import { policyOf, unsealApproved, type ApprovedPolicy, type SealedTo } from './sealing.js';
import type { Turn } from '../turns/turn.js';
import type { LoadableKey } from '../turns/slots.js';
import { sealedPublic } from './templates.js';

/** Whom state keys are sealed to from now on, and what an authority has signed so far. */
export interface SealOptions {
  readonly to: SealedTo | undefined;
  readonly approved: () => Promise<readonly ApprovedPolicy[]>;
}

/** A state key as it is stored. */
export interface SealedStateKey {
  readonly stateKeyPublic: Buffer;
  readonly stateKeyPrivate: Buffer;
  readonly sealedTo?: SealedTo | undefined;
}

/** Seals and unseals state keys. */
export class StateKeys {
  constructor(private readonly options: SealOptions) {}

  /** Seals `stateKey` below the guest's `root`. Part of a turn. */
  async seal(turn: Turn, root: LoadableKey, stateKey: Buffer): Promise<SealedStateKey> {
    const { to } = this.options;
    const policy = to === undefined ? undefined : await policyOf(turn, to);
    const template = sealedUnderPolicy(sealedPublic(root.publicArea), policy);
    const sealed = await turn.use(root, (handle) =>
      createUnder(turn, { handle, name: root.name }, template, { authValue: Buffer.alloc(0), data: stateKey }),
    );
    const stored = { stateKeyPublic: sealed.publicArea, stateKeyPrivate: sealed.privateBlob };
    return to === undefined ? stored : { ...stored, sealedTo: to };
  }

  /**
   * The state key in clear; whoever gets it zeroizes it. Rejects with `HostPolicyError` if it is sealed to another host, or as the chip
   * does. Part of a turn.
   */
  async unseal(turn: Turn, root: LoadableKey, { stateKeyPublic, stateKeyPrivate, sealedTo }: SealedStateKey): Promise<Buffer> {
    const key = loadable({ publicArea: stateKeyPublic, privateBlob: stateKeyPrivate }, root);
    const approved = sealedTo?.kind === 'authority' ? await this.options.approved() : [];
    return await turn.use(key, async (itemHandle) => {
      if (sealedTo !== undefined) return await unsealApproved(turn, key, itemHandle, sealedTo, approved);
      const { outData } = await turn.execute(Unseal, { itemHandle }, { names: [key.name] });
      return outData;
    });
  }
}

/** The public area with `policy` as the only way to use the object. */
function sealedUnderPolicy(publicArea: TPMT_PUBLIC, policy: Buffer | undefined): TPMT_PUBLIC {
  if (policy === undefined) return publicArea;
  return { ...publicArea, authPolicy: policy, objectAttributes: publicArea.objectAttributes & ~TPMA_OBJECT.userWithAuth };
}
