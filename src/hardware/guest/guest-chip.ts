// The chip as one guest's TPM sees it: keys below the guest's root, and what is computed with them.
import { hkdfSync } from 'node:crypto';
import type { Command, Request, Response } from '../../tpm/command.js';
import { ECDH_ZGen, RSA_Decrypt, Sign, Unseal } from '../../tpm/commands/index.js';
import { TPM_RH, TPM_ST } from '../../tpm/constants/index.js';
import { encode } from '../../tpm/schema.js';
import { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import type { TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SENSITIVE, TPMT_SIGNATURE, TPMT_SIG_SCHEME } from '../../tpm/structures/index.js';
import type { Account } from '../turns/usage.js';
import type { ChipInfo } from '../chip/info.js';
import { createUnder, importUnder, loadable, type KeyBlobs } from '../host/create-key.js';
import { extractSecret } from './extract-secret.js';
import { isChipGone } from '../chip/errors.js';
import type { ChipJobs } from '../turns/jobs.js';
import type { LoadableKey } from '../turns/slots.js';

const AUTH_SIZE = 32;
const NO_TICKET = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) } as const;

/**
 * One guest's keys in the chip. All are children of the guest's root and have one authorization value, which is derived from
 * the guest's state key and never leaves tpmux in clear. Methods reject with `ChipError` where the chip refuses, with `TPM_RC_RETRY`
 * where too many jobs wait. Buffers in results are the caller's own.
 */
export class GuestChip {
  readonly account: Account;
  readonly info: ChipInfo;
  private readonly jobs: ChipJobs;
  private readonly root: LoadableKey;
  private readonly authValue: Buffer;

  constructor(jobs: ChipJobs, info: ChipInfo, root: LoadableKey, stateKey: Buffer, account: Account) {
    this.jobs = jobs;
    this.info = info;
    this.root = root;
    this.account = account;
    this.authValue = Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), 'tpmux chip auth', AUTH_SIZE));
  }

  /** Public area of the guest's root: what is created below it inherits attributes ({@link guestKeyPublic}, {@link sealedPublic}). */
  get rootPublic(): TPMT_PUBLIC {
    return this.root.publicArea;
  }

  /** Makes a key, or seals `data` (at most 128 bytes). One command if the root is in a slot; for an RSA key it takes seconds. */
  create(template: TPMT_PUBLIC, data: Buffer): Promise<KeyBlobs> {
    const { jobs, account, root, authValue } = this;
    return jobs.run(account, () =>
      jobs.slots.use(root, account, (handle) =>
        createUnder(jobs.chip, account, { handle, name: root.name }, template, { authValue, data }),
      ),
    );
  }

  /**
   * Takes over a key from outside. `publicArea` is the chip's, e.g. of {@link guestKeyPublic}; of `sensitive` only the
   * secret counts. The caller zeroizes it. One command if the root is in a slot.
   */
  import(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<KeyBlobs> {
    const { jobs, account, root, authValue } = this;
    const secret = { ...sensitive, authValue, seedValue: Buffer.alloc(0) };
    return jobs.run(account, () =>
      jobs.slots.use(root, account, (handle) => importUnder(jobs.chip, account, { ...root, handle }, publicArea, secret)),
    );
  }

  /** A key that {@link create} or {@link import} made, to be used with the methods below. Sends no command; keeps no view of its arguments. */
  key(publicArea: TPMT_PUBLIC, privateBlob: Buffer): LoadableKey {
    return loadable({ publicArea: encode(TPMT_PUBLIC, publicArea), privateBlob }, this.root);
  }

  /** `TPM2_Sign` of a digest (Part 3, 20.2). */
  async sign(key: LoadableKey, digest: Buffer, inScheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    const { signature } = await this.operate(key, Sign, (keyHandle) => ({ keyHandle, digest, inScheme, validation: NO_TICKET }));
    return signature;
  }

  /** `TPM2_RSA_Decrypt` (Part 3, 14.3). */
  async rsaDecrypt(key: LoadableKey, cipherText: Buffer, inScheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer> {
    const { message } = await this.operate(key, RSA_Decrypt, (keyHandle) => ({ keyHandle, cipherText, inScheme, label }));
    return message;
  }

  /** `TPM2_ECDH_ZGen` (Part 3, 14.5). */
  async ecdhZGen(key: LoadableKey, inPoint: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    const { outPoint } = await this.operate(key, ECDH_ZGen, (keyHandle) => ({ keyHandle, inPoint }));
    return outPoint;
  }

  /** `TPM2_Unseal` (Part 3, 12.7). */
  async unseal(key: LoadableKey): Promise<Buffer> {
    const { outData } = await this.operate(key, Unseal, (itemHandle) => ({ itemHandle }));
    return outData;
  }

  /**
   * The secret (prime or scalar) of a key that its guest made duplicable. It leaves the chip encrypted for a key that exists for this
   * call alone. Six commands; the caller zeroizes what it gets.
   */
  extract(key: LoadableKey): Promise<Buffer> {
    const { jobs, account } = this;
    return jobs.run(account, () => jobs.slots.use(key, account, (handle) => extractSecret(jobs.chip, account, key, handle)));
  }

  /**
   * Removes the guest's keys from the chip and forgets the authorization value. The object is not used after that. A chip that is
   * gone has nothing that could be removed: it is emptied when it comes back.
   */
  async close(): Promise<void> {
    const { jobs, account, root } = this;
    const prefix = `${root.name.toString('hex')}/`;
    try {
      await jobs.run(account, () => jobs.slots.discard((key) => key.id === root.id || key.id.startsWith(prefix), account));
    } catch (error) {
      if (!isChipGone(error)) throw error;
    } finally {
      jobs.slots.forgetContexts(prefix);
      this.authValue.fill(0);
    }
  }

  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- any command there is
  private operate<C extends Command<any, any, any, any>>(
    key: LoadableKey,
    of: C,
    request: (handle: number) => Request<C>,
  ): Promise<Response<C>> {
    const { jobs, account, authValue } = this;
    return jobs.run(account, () =>
      jobs.slots.use(key, account, (handle) => jobs.chip.execute(of, request(handle), { account, authValue, names: [key.name] })),
    );
  }
}
