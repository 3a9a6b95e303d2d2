// TPM 2.0 Library Part 3, 23.7 and 23.16: state keys that the chip unseals only to an approved host.
import { LoadExternal, PolicyAuthorize, PolicyGetDigest, PolicyPCR, Unseal, VerifySignature } from '../../tpm/commands/index.js';
import { TPM_ALG, TPM_RH } from '../../tpm/constants/index.js';
import { hash } from '../../tpm/hash.js';
import { nameOfPublic } from '../../tpm/name.js';
import { pcrBitmap } from '../../tpm/pcr-bitmap.js';
import { policyDigest } from '../../tpm/policy-digest.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { TPML_PCR_SELECTION, TPMT_PUBLIC, TPMT_SIGNATURE } from '../../tpm/structures/index.js';
import { flushedAfter, type CommandSender } from '../chip/sender.js';
import { ChipError, HostPolicyError } from '../chip/errors.js';
import { withPolicySession } from '../chip/policy-session.js';
import type { LoadableKey } from '../turns/slots.js';
import { authorizedPolicyDigest } from './templates.js';

const NAME_ALG = TPM_ALG.SHA256;
const NONE = Buffer.alloc(0);
const ATTEMPTS = 3;

/** PCRs of one bank of the chip. */
export interface PcrChoice {
  /** Hash algorithm, `TPM_ALG`. */
  readonly bank: number;
  /** 0 to 23, ascending, none twice. */
  readonly pcrs: readonly number[];
}

/** Whom a state key is sealed to: hosts with these PCRs as they were, or what an authority (its public key) approves. */
export type SealedTo = { readonly kind: 'pcrs'; readonly choice: PcrChoice } | { readonly kind: 'authority'; readonly key: TPMT_PUBLIC };

/** A policy that an authority signed ({@link policyToSign}). */
export interface ApprovedPolicy {
  readonly choice: PcrChoice;
  /** Digest of `PolicyPCR` over the PCRs that it approves; 32 bytes. */
  readonly policy: Buffer;
  readonly signature: TPMT_SIGNATURE;
}

/** `policyRef` of what authorities sign, so that what they sign for others means nothing here. */
const HOST_POLICY_REF = Buffer.from('tpmux host');

/** What an authority signs, with SHA-256: the digest of `PolicyPCR` and what it is for. */
export function policyToSign(policy: Buffer): Buffer {
  return Buffer.concat([policy, HOST_POLICY_REF]);
}

/** Digest of `PolicyPCR` over PCRs that have these values, in ascending order of their indices (Part 3, 23.7). */
export function pcrPolicyDigest(choice: PcrChoice, values: readonly Buffer[]): Buffer {
  return policyDigest([[PolicyPCR, { pcrs: selectionOf(choice), pcrDigest: hash(NAME_ALG, ...values) }]], NAME_ALG);
}

/** Digest of `PolicyPCR` over the PCRs as they are now. Part of a turn; three commands. */
export async function currentPolicy(sender: CommandSender, choice: PcrChoice): Promise<Buffer> {
  return await withPolicySession(sender, (session) => extendWithPcrs(sender, session, choice));
}

/** `authPolicy` of what is sealed to `to` now. Part of a turn. */
export async function policyOf(sender: CommandSender, to: SealedTo): Promise<Buffer> {
  if (to.kind === 'pcrs') return await currentPolicy(sender, to.choice);
  return authorizedPolicyDigest(nameOfPublic(to.key), HOST_POLICY_REF);
}

/**
 * Unseals the loaded `key`, which is sealed to `to`. What it holds crosses the bus encrypted, in the long-lived session. Part of a turn.
 * Rejects with {@link HostPolicyError} if the host's PCRs are not those, or none that the authority approved.
 */
export async function unsealApproved(
  sender: CommandSender,
  key: LoadableKey,
  itemHandle: number,
  to: SealedTo,
  approved: readonly ApprovedPolicy[],
): Promise<Buffer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await withPolicySession(sender, async (session) => {
        await satisfy(sender, session, to, approved);
        const { outData } = await sender.execute(
          Unseal,
          { itemHandle },
          {
            names: [key.name],
            authorizations: [
              { kind: 'policy', handle: session },
              { kind: 'session', authValue: undefined },
            ],
          },
        );
        return outData;
      });
    } catch (error) {
      if (!(error instanceof ChipError)) throw error;
      // A PCR was extended between the policy and its use.
      if (error.code === TPM_RC.PCR_CHANGED && attempt < ATTEMPTS) continue;
      if (error.base === TPM_RC.POLICY_FAIL) throw new HostPolicyError(differs(to), { cause: error });
      throw error;
    }
  }
}

async function satisfy(sender: CommandSender, session: number, to: SealedTo, approved: readonly ApprovedPolicy[]): Promise<void> {
  if (to.kind === 'pcrs') {
    await extendWithPcrs(sender, session, to.choice);
    return;
  }
  const match = await findApproved(sender, approved);
  if (match === undefined) throw new HostPolicyError(differs(to));
  await extendWithPcrs(sender, session, match.choice);
  const keySign = nameOfPublic(to.key);
  const checkTicket = await verifyApproval(sender, to.key, match);
  await sender.execute(PolicyAuthorize, {
    policySession: session,
    approvedPolicy: match.policy,
    policyRef: HOST_POLICY_REF,
    keySign,
    checkTicket,
  });
}

async function findApproved(sender: CommandSender, approved: readonly ApprovedPolicy[]): Promise<ApprovedPolicy | undefined> {
  for (const each of approved) {
    if ((await currentPolicy(sender, each.choice)).equals(each.policy)) return each;
  }
  return undefined;
}

async function verifyApproval(sender: CommandSender, key: TPMT_PUBLIC, { policy, signature }: ApprovedPolicy) {
  const request = { inPrivate: null, inPublic: key, hierarchy: TPM_RH.OWNER };
  const { objectHandle } = await sender.execute(LoadExternal, request);
  return await flushedAfter(sender, objectHandle, async () => {
    const digest = hash(NAME_ALG, policyToSign(policy));
    const names = [nameOfPublic(key)];
    try {
      const { validation } = await sender.execute(VerifySignature, { keyHandle: objectHandle, digest, signature }, { names });
      return { ...validation, digest: Buffer.from(validation.digest) };
    } catch (error) {
      if (!(error instanceof ChipError) || error.base !== TPM_RC.SIGNATURE) throw error;
      throw new HostPolicyError("the signature of the approved policy is not the authority's", { cause: error });
    }
  });
}

async function extendWithPcrs(sender: CommandSender, policySession: number, choice: PcrChoice): Promise<Buffer> {
  await sender.execute(PolicyPCR, { policySession, pcrDigest: NONE, pcrs: selectionOf(choice) });
  const { policyDigest } = await sender.execute(PolicyGetDigest, { policySession });
  return Buffer.from(policyDigest);
}

function selectionOf({ bank, pcrs }: PcrChoice): TPML_PCR_SELECTION {
  return [{ hash: bank, pcrSelect: pcrBitmap(pcrs) }] as TPML_PCR_SELECTION;
}

function differs(to: SealedTo): string {
  const sealed = to.kind === 'pcrs' ? 'those that the state of the guest is sealed to' : 'any that the authority approved';
  return `the host's PCRs are not ${sealed}`;
}
