// A guest's end of the vendor commands (docs/aware-guests.md), over any TCTI.
import { randomBytes } from 'node:crypto';
import { Tcti } from '../native/index.js';
import { password, TpmClient } from '../tpm/client.js';
import { isOwnCommand, withoutVendorBit, type AnyCommand, type Request, type Response } from '../tpm/command.js';
import {
  FlushContext,
  PolicyGetDigest,
  ReadPublic,
  StartAuthSession,
  Unseal,
  Vendor_ListProviders,
  Vendor_PolicyPCR,
  Vendor_Quote,
  Vendor_ReadVector,
} from '../tpm/commands/index.js';
import { MAX_PROVIDER_LIST, TPM_ALG, TPM_RH, TPM_SE } from '../tpm/constants/index.js';
import { CommandRefused } from '../tpm/response-error.js';
import { digestSize } from '../tpm/hash.js';
import { pcrBitmap, selectedPcrs } from '../tpm/pcr-bitmap.js';
import { encode, sized } from '../tpm/schema.js';
import {
  TPMT_PUBLIC,
  TPMT_SIGNATURE_PLUS,
  type TPML_PCR_SELECTION,
  type TPMS_AUTH_COMMAND,
  type TPMS_PCR_SELECTION,
} from '../tpm/structures/index.js';

const RETRIES = { times: 50, milliseconds: 100 } as const;
/** Times that PCRs are read again which changed meanwhile. */
const READS = 50;
/** `TPM_RC_COMMAND_CODE` of a resource manager (layer 11 of TSS2_RC). */
const UNKNOWN_TO_MANAGER = 0xb0143;
const NOTHING = Buffer.alloc(0);
const NO_CIPHER = { algorithm: TPM_ALG.NULL, keyBits: null, mode: null } as const;
const NO_SCHEME = { scheme: TPM_ALG.NULL, details: null } as const;

/** A property provider of this guest. */
export interface Provider {
  readonly name: string;
  /** PCRs at which the guest sees its vector. */
  readonly presented: readonly number[];
  /** PCRs at which TPM2_Quote takes its vector. */
  readonly attested: readonly number[];
}

/** Some PCRs of a bank (`TPM_ALG_ID`, e.g. 0x000b). */
export interface PcrChoice {
  readonly bank: TPMS_PCR_SELECTION['hash'];
  readonly pcrs: readonly number[];
}

/** The value of one PCR. */
export interface PcrValue {
  readonly bank: number;
  readonly pcr: number;
  readonly value: Buffer;
}

/** A quote, as tpm2_quote writes it. */
export interface ProviderQuote {
  /** `TPMS_ATTEST`. */
  readonly message: Buffer;
  /** `TPMT_SIGNATURE`. */
  readonly signature: Buffer;
}

/** A connection to the TPM of this guest. One command at a time. Methods reject with {@link CommandRefused} or a `TctiError`. */
export class AwareGuest {
  /** The operating system lets no command with the vendor bit through. */
  private losesVendorBit = false;

  private readonly client: TpmClient;

  private constructor(private readonly tcti: Tcti) {
    this.client = new TpmClient((frame) => tcti.transceive(frame), RETRIES);
  }

  /** Connects by a TCTI string of tpm2-tss, e.g. `device:/dev/tpmrm0`. */
  static async open(configuration: string): Promise<AwareGuest> {
    return new AwareGuest(await Tcti.open(configuration));
  }

  close(): Promise<void> {
    return this.tcti.close();
  }

  /** All property providers. A TPM that is none of tpmux refuses with `TPM_RC_COMMAND_CODE`. */
  async providers(): Promise<Provider[]> {
    const all: Provider[] = [];
    for (let more = true; more;) {
      const page = await this.run(Vendor_ListProviders, { first: all.length, count: MAX_PROVIDER_LIST });
      for (const { name, presented, attested } of page.providers) {
        all.push({ name: name.toString('ascii'), presented: selectedPcrs(presented), attested: selectedPcrs(attested) });
      }
      more = page.moreData !== 0 && page.providers.length > 0;
    }
    return all;
  }

  /** PCRs of a provider's vector, all of one moment. PCRs that do not exist are left out. Rejects with an Error if PCRs never stop changing. */
  async readVector(provider: string, choices: readonly PcrChoice[]): Promise<PcrValue[]> {
    for (let tries = 0; tries < READS; tries++) {
      const read = await this.readOnce(provider, choices);
      if (read !== undefined) return read;
    }
    throw new Error('the PCRs change all the time');
  }

  /**
   * The digest of a policy that asks for the present values of PCRs in a provider's vector: what an object is created with. `hashAlg` is the
   * object's name algorithm.
   */
  async policyDigest(
    provider: string,
    choices: readonly PcrChoice[],
    hashAlg: TPMS_PCR_SELECTION['hash'] = TPM_ALG.SHA256,
  ): Promise<Buffer> {
    const policySession = await this.startSession(TPM_SE.TRIAL, hashAlg);
    try {
      await this.policyPcr(policySession, provider, choices);
      return Buffer.from((await this.run(PolicyGetDigest, { policySession })).policyDigest);
    } finally {
      await this.flush(policySession);
    }
  }

  /** Starts a policy or trial session; the caller ends it with {@link flush}. */
  async startSession(sessionType: typeof TPM_SE.POLICY | typeof TPM_SE.TRIAL, authHash: TPMS_PCR_SELECTION['hash']): Promise<number> {
    const nonceCaller = randomBytes(digestSize(authHash));
    const request = {
      tpmKey: TPM_RH.NULL,
      bind: TPM_RH.NULL,
      nonceCaller,
      encryptedSalt: NOTHING,
      sessionType,
      symmetric: NO_CIPHER,
      authHash,
    };
    return (await this.run(StartAuthSession, request)).sessionHandle;
  }

  /** Vendor_PolicyPCR with the present values. */
  async policyPcr(policySession: number, provider: string, choices: readonly PcrChoice[]): Promise<void> {
    await this.run(Vendor_PolicyPCR, {
      policySession,
      provider: Buffer.from(provider, 'ascii'),
      pcrDigest: NOTHING,
      pcrs: selectionOf(choices),
    });
  }

  /** Unseals an object whose policy is {@link policyDigest} of these PCRs. */
  async unseal(itemHandle: number, provider: string, choices: readonly PcrChoice[]): Promise<Buffer> {
    const { publicArea } = await this.readPublic(itemHandle);
    const hashAlg = publicArea.nameAlg === TPM_ALG.NULL ? TPM_ALG.SHA256 : publicArea.nameAlg;
    const policySession = await this.startSession(TPM_SE.POLICY, hashAlg);
    try {
      await this.policyPcr(policySession, provider, choices);
      const authorization = { sessionHandle: policySession, nonce: NOTHING, sessionAttributes: 1, hmac: NOTHING };
      return Buffer.from((await this.run(Unseal, { itemHandle }, [authorization])).outData);
    } finally {
      await this.flush(policySession);
    }
  }

  /** A quote of PCRs in a provider's vector; `auth` is the key's authorization value. The key's scheme is used. */
  async quote(
    signHandle: number,
    provider: string,
    choices: readonly PcrChoice[],
    qualifyingData: Buffer,
    auth: Buffer = NOTHING,
  ): Promise<ProviderQuote> {
    const request = {
      signHandle,
      provider: Buffer.from(provider, 'ascii'),
      qualifyingData,
      inScheme: NO_SCHEME,
      PCRselect: selectionOf(choices),
    };
    const { quoted, signature } = await this.run(Vendor_Quote, request, [password(auth)]);
    return { message: Buffer.from(quoted), signature: encode(TPMT_SIGNATURE_PLUS, signature) };
  }

  /** The public area of an object, also as the `TPM2B_PUBLIC` that tpm2_readpublic writes. */
  async readPublic(objectHandle: number): Promise<{ readonly publicArea: TPMT_PUBLIC; readonly bytes: Buffer }> {
    const { outPublic } = await this.run(ReadPublic, { objectHandle });
    return { publicArea: outPublic, bytes: encode(sized(TPMT_PUBLIC), outPublic) };
  }

  async flush(flushHandle: number): Promise<void> {
    await this.run(FlushContext, { flushHandle });
  }

  /** Undefined if a PCR changed meanwhile. */
  private async readOnce(provider: string, choices: readonly PcrChoice[]): Promise<PcrValue[] | undefined> {
    const values: PcrValue[] = [];
    let counter: number | undefined;
    for (const { bank, pcrs } of choices) {
      const left = new Set(pcrs);
      while (left.size > 0) {
        const pcrSelectionIn = selectionOf([{ bank, pcrs: [...left] }]);
        const page = await this.run(Vendor_ReadVector, { provider: Buffer.from(provider, 'ascii'), pcrSelectionIn });
        counter ??= page.pcrUpdateCounter;
        if (counter !== page.pcrUpdateCounter) return undefined;
        const given = page.pcrSelectionOut.flatMap(({ pcrSelect }) => selectedPcrs(pcrSelect));
        if (given.length === 0) break;
        for (const [at, pcr] of given.entries()) {
          left.delete(pcr);
          values.push({ bank, pcr, value: Buffer.from(page.pcrValues[at] ?? NOTHING) });
        }
      }
    }
    return values;
  }

  /** Executes a command; without its vendor bit if a resource manager, not the TPM, says that there is no such command. */
  private async run<C extends AnyCommand>(of: C, request: Request<C>, authorizations?: readonly TPMS_AUTH_COMMAND[]): Promise<Response<C>> {
    const own = isOwnCommand(of);
    if (own && this.losesVendorBit) return await this.client.execute(withoutVendorBit(of), request, authorizations);
    try {
      return await this.client.execute(of, request, authorizations);
    } catch (error) {
      if (!own || !(error instanceof CommandRefused) || error.code !== UNKNOWN_TO_MANAGER) throw error;
      this.losesVendorBit = true;
      return await this.client.execute(withoutVendorBit(of), request, authorizations);
    }
  }
}

function selectionOf(choices: readonly PcrChoice[]): TPML_PCR_SELECTION {
  return choices.map(({ bank, pcrs }) => ({ hash: bank, pcrSelect: pcrBitmap(pcrs) }));
}
