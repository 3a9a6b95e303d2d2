// Giving up on a key engine: a chip takes seconds for an RSA key, and cannot be told to stop while others wait for it.
import { TPM_RC, TpmError } from '../tpm/response-code.js';
import type {
  TPMS_ECC_POINT,
  TPMT_PUBLIC,
  TPMT_RSA_DECRYPT,
  TPMT_SENSITIVE,
  TPMT_SIGNATURE,
  TPMT_SIG_SCHEME,
} from '../tpm/structures/index.js';
import type { CreatedKey, CreateRequest, KeyEngine, PrivatePart, SymmetricSecret } from './engine.js';
import type { SoftwareEngine } from './software.js';

/** Whether the guest still wants what one command is working on. */
export class Cancellation {
  private canceled = false;
  private running = false;
  private giveUp: ((error: TpmError) => void) | undefined;

  /** A command begins. Commands do not overlap. */
  begin(): void {
    this.canceled = false;
    this.running = true;
  }

  /** The command has ended; true if it was canceled. */
  end(): boolean {
    this.running = false;
    return this.canceled;
  }

  /** Cancels the command that runs, if one does: what waits for an engine, or will, fails with `TPM_RC_CANCELED`. */
  cancel(): void {
    if (!this.running) return;
    this.canceled = true;
    this.giveUp?.(new TpmError(TPM_RC.CANCELED));
  }

  /** What `work` gives, or `TPM_RC_CANCELED` as soon as the command is canceled. The work goes on then; its result is `discard`ed. */
  async orCancel<T>(work: () => Promise<T>, discard: (result: T) => void = () => undefined): Promise<T> {
    if (this.running && this.canceled) throw new TpmError(TPM_RC.CANCELED);
    let taken = false;
    const result = work();
    const canceled = new Promise<never>((_resolve, reject) => {
      this.giveUp = reject;
    });
    try {
      const value = await Promise.race([result, canceled]);
      taken = true;
      return value;
    } finally {
      this.giveUp = undefined;
      // Also where the engine itself failed; then there is nothing to discard.
      if (!taken) result.then(discard, () => undefined);
    }
  }
}

function discardSecret({ sensitive, seedValue }: SymmetricSecret): void {
  sensitive.fill(0);
  seedValue.fill(0);
}

/** An engine whose operations can be canceled. What it makes serializes as `engine`'s own does. */
export function cancelableEngine(engine: KeyEngine, cancellation: Cancellation): KeyEngine {
  const wrap = (part: PrivatePart): PrivatePart => new CancelablePart(part, cancellation);
  return {
    id: engine.id,
    supports: (publicArea) => engine.supports(publicArea),
    restore: (publicArea: TPMT_PUBLIC, serialized: Buffer) => wrap(engine.restore(publicArea, serialized)),
    async create(request: CreateRequest): Promise<CreatedKey> {
      const { publicArea, privatePart } = await cancellation.orCancel(
        () => engine.create(request),
        (key) => {
          key.privatePart.dispose();
        },
      );
      return { publicArea, privatePart: wrap(privatePart) };
    },
    async adopt(publicArea: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE): Promise<PrivatePart> {
      return wrap(
        await cancellation.orCancel(
          () => engine.adopt(publicArea, sensitive),
          (part) => {
            part.dispose();
          },
        ),
      );
    },
  };
}

/** A software engine whose new keys can be given up; nothing else of it takes long. */
export function cancelableSoftware(engine: SoftwareEngine, cancellation: Cancellation): SoftwareEngine {
  const create: SoftwareEngine['create'] = (request) =>
    cancellation.orCancel(
      () => engine.create(request),
      ({ privatePart }) => {
        privatePart.dispose();
      },
    );
  return Object.assign(Object.create(engine) as SoftwareEngine, { create });
}

class CancelablePart implements PrivatePart {
  readonly engineId: number;

  constructor(
    private readonly part: PrivatePart,
    private readonly cancellation: Cancellation,
  ) {
    this.engineId = part.engineId;
  }

  sign(digest: Buffer, scheme: TPMT_SIG_SCHEME): Promise<TPMT_SIGNATURE> {
    return this.cancellation.orCancel(() => this.part.sign(digest, scheme));
  }

  rsaDecrypt(cipherText: Buffer, scheme: TPMT_RSA_DECRYPT, label: Buffer): Promise<Buffer> {
    return this.cancellation.orCancel(
      () => this.part.rsaDecrypt(cipherText, scheme, label),
      (message) => message.fill(0),
    );
  }

  ecdhZGen(point: TPMS_ECC_POINT): Promise<TPMS_ECC_POINT> {
    return this.cancellation.orCancel(() => this.part.ecdhZGen(point));
  }

  secret(): Promise<SymmetricSecret> {
    return this.cancellation.orCancel(() => this.part.secret(), discardSecret);
  }

  serialize(): Buffer {
    return this.part.serialize();
  }

  dispose(): void {
    this.part.dispose();
  }
}
