// The chip as one guest's TPM sees it: keys below the guest's root, and what is computed with them.
import { hkdfSync } from 'node:crypto';
import type { AnyCommand, Request, Response } from '../../tpm/command.js';
import { ECDH_ZGen, RSA_Decrypt, Sign } from '../../tpm/commands/index.js';
import { TPM_RH, TPM_ST } from '../../tpm/constants/index.js';
import { encode } from '../../tpm/schema.js';
import { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import type { TPMS_ECC_POINT, TPMT_RSA_DECRYPT, TPMT_SENSITIVE, TPMT_SIGNATURE, TPMT_SIG_SCHEME } from '../../tpm/structures/index.js';
import type { Account } from '../chip/usage.js';
import type { ChipInfo } from '../chip/info.js';
import { createUnder, importUnder, loadable, type KeyBlobs } from '../host/create-key.js';
import { extractSecret } from './extract-secret.js';
import { isChipGone } from '../chip/errors.js';
import type { TurnKind } from '../turns/scheduler.js';
import type { Turn } from '../turns/turn.js';
import { isOf, type Turns } from '../turns/turns.js';
import type { LoadableKey } from '../turns/slots.js';

const AUTH_SIZE = 32;
const NO_DATA = Buffer.alloc(0);
const NO_TICKET = { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: Buffer.alloc(0) } as const;

/** What a guest has in the chip. */
export interface GuestKeys {
  readonly root: LoadableKey;
  readonly secretsKey: LoadableKey;
  /** 32 bytes. */
  readonly stateKey: Buffer;
}

/** The authorization value of all keys below a guest's root; the caller zeroizes it. */
export function guestAuthValue(stateKey: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', stateKey, Buffer.alloc(0), 'tpmux chip auth', AUTH_SIZE));
}

/**
 * One guest's keys in the chip. All are children of the guest's root and have one authorization value, which is derived from
 * the guest's state key and never leaves tpmux in clear. Methods reject with `ChipError` where the chip refuses, with `TPM_RC_RETRY`
 * where too many jobs wait. Buffers in results are the caller's own.
 */
export class GuestChip {
  readonly account: Account;
  readonly info: ChipInfo;
  /** The key that the secrets of symmetric objects are encrypted for ({@link secretsKeyTemplate}). */
  readonly secretsKey: LoadableKey;
  private readonly turns: Turns;
  private readonly root: LoadableKey;
  private readonly authValue: Buffer;

  constructor(turns: Turns, info: ChipInfo, { root, secretsKey, stateKey }: GuestKeys, account: Account) {
    this.turns = turns;
    this.info = info;
    this.root = root;
    this.secretsKey = secretsKey;
    this.account = account;
    this.authValue = guestAuthValue(stateKey);
  }

  /** Public area of the guest's root: what is created below it inherits attributes ({@link guestKeyPublic}). */
  get rootPublic(): TPMT_PUBLIC {
    return this.root.publicArea;
  }

  /** Makes a key. One command if the root is in a slot; for an RSA key it takes seconds. */
  create(template: TPMT_PUBLIC): Promise<KeyBlobs> {
    const { root, authValue } = this;
    return this.run('create', root, (turn) =>
      turn.use(root, (handle) => createUnder(turn, { handle, name: root.name }, template, { authValue, data: NO_DATA })),
    );
  }

  /**
   * Takes over a key from outside. `publicArea` is the chip's, e.g. of {@link guestKeyPublic}; of `sensitive` only the
   * secret counts. The caller zeroizes it. One command if the root is in a slot.
   */
  import(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<KeyBlobs> {
    const { root } = this;
    const secret = { ...sensitive, authValue: this.authValue, seedValue: Buffer.alloc(0) };
    return this.run('create', root, (turn) => turn.use(root, (handle) => importUnder(turn, { ...root, handle }, publicArea, secret)));
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
    const request = (keyHandle: number) => ({ keyHandle, cipherText, inScheme, label });
    const { message } = await this.operate(key, RSA_Decrypt, request, (late) => late.message.fill(0));
    return message;
  }

  /** `TPM2_ECDH_ZGen` (Part 3, 14.5). */
  async ecdhZGen(key: LoadableKey, inPoint: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    const request = (keyHandle: number) => ({ keyHandle, inPoint });
    const { outPoint } = await this.operate(key, ECDH_ZGen, request, ({ outPoint: { x, y } }) => {
      for (const secret of [x, y]) secret.fill(0);
    });
    return outPoint;
  }

  /**
   * The secret (prime or scalar) of a key that its guest made duplicable. It leaves the chip encrypted for a key that exists for this
   * call alone. Six commands; the caller zeroizes what it gets.
   */
  extract(key: LoadableKey): Promise<Buffer> {
    return this.run(
      'use',
      key,
      (turn) => turn.use(key, (handle) => extractSecret(turn, key, handle)),
      (late) => late.fill(0),
    );
  }

  /**
   * Removes the guest's keys from the chip and forgets the authorization value. The object is not used after that. A chip that is
   * gone has nothing that could be removed: it is emptied when it comes back.
   */
  async close(): Promise<void> {
    const { turns, account, root } = this;
    try {
      await turns.run({ guest: account, kind: 'host' }, (turn) => turn.discard((key) => isOf(root, key)));
    } catch (error) {
      if (!isChipGone(error)) throw error;
    } finally {
      turns.forgetContexts(root.name);
      this.authValue.fill(0);
    }
  }

  private operate<C extends AnyCommand>(
    key: LoadableKey,
    of: C,
    request: (handle: number) => Request<C>,
    discard?: (late: Response<C>) => void,
  ): Promise<Response<C>> {
    const options = { authValue: this.authValue, names: [key.name] };
    return this.run('use', key, (turn) => turn.use(key, (handle) => turn.execute(of, request(handle), options)), discard);
  }

  /** A turn for the guest's command that runs: nobody waits for it any more once that is given up. */
  private run<T>(kind: TurnKind, key: LoadableKey, job: (turn: Turn) => Promise<T>, discard?: (late: T) => void): Promise<T> {
    const { account } = this;
    return this.turns.run({ guest: account, kind, key: key.id, signal: account.signal }, job, discard);
  }
}
