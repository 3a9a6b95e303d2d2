// What a quote of one provider's vector says about itself, so that nobody takes it for a quote of another vector.
import { TPM_ALG } from './constants/index.js';
import { hash } from './hash.js';
import { encode } from './schema.js';
import { TPM2B_DATA, TPM2B_PROVIDER } from './structures/index.js';

/**
 * `extraData` begins so in the quotes of Vendor_Quote and in no others: TPM2_Quote refuses such qualifying data. Eight ASCII characters.
 */
const PREFIX = Buffer.from('tpmuxVQ1', 'ascii');

/**
 * `extraData` of a quote of `provider`'s vector: the prefix, then SHA-256 of the provider's name and the caller's qualifying data, each with its
 * 16-bit size in front. 40 bytes.
 */
export function providerExtraData(provider: string, qualifyingData: Buffer): Buffer {
  const name = encode(TPM2B_PROVIDER, Buffer.from(provider, 'ascii'));
  return Buffer.concat([PREFIX, hash(TPM_ALG.SHA256, name, encode(TPM2B_DATA, qualifyingData))]);
}

/** Whether `extraData` is that of a quote of one provider's vector. */
export function isProviderExtraData(extraData: Buffer): boolean {
  return extraData.subarray(0, PREFIX.length).equals(PREFIX);
}
