/** Why evidence is not accepted; programs test these, the message is for people. */
export type RejectionReason =
  /** The evidence, a list or a signature is not of the form that it should have. */
  | 'malformed'
  | 'not_a_quote'
  /** The key may sign what its holder likes, or is one that cannot sign quotes. */
  | 'unsuitable_key'
  | 'bad_signature'
  | 'wrong_nonce'
  /** The quote is of another provider's vector than is asked for. */
  | 'other_vector'
  /** The quote does not say whose vector it is of, and that matters. */
  | 'vector_not_named'
  | 'pcrs_not_covered'
  /** The log does not lead to the values that were quoted: it was changed, or is of another time. */
  | 'log_mismatch'
  /** Entries are missing, so that nobody can tell what was measured before. */
  | 'log_incomplete'
  | 'nothing_measured'
  /** A measurement that no statement is about, or none that is shown. */
  | 'unknown_measurement'
  /** A statement does not say what the log claims that it says. */
  | 'statement_mismatch'
  | 'untrusted_statement'
  | 'not_yet_valid'
  | 'expired'
  | 'revoked'
  | 'property_not_allowed'
  | 'missing_property';

/** Evidence that is not accepted. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError';

  constructor(
    readonly reason: RejectionReason,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
