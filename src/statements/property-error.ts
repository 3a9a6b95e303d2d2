/** Why a statement, revocation list or key is not accepted; programs test these, the message is for people. */
export type PropertyErrorCode =
  | 'malformed'
  | 'untrusted_key'
  | 'bad_signature'
  | 'issuer_mismatch'
  | 'property_not_allowed'
  | 'not_yet_valid'
  | 'expired'
  | 'revoked'
  | 'revocations_missing'
  | 'outdated'
  | 'unsupported_key'
  | 'too_many';

/** A statement, revocation list or key that is refused. */
export class PropertyError extends Error {
  override readonly name = 'PropertyError';

  constructor(
    readonly code: PropertyErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
