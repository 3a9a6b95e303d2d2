// TPM 2.0 Library Part 3: all commands, and a table of them by code.
import type { Command } from '../command.js';
import * as asymmetric from './cryptography/asymmetric.js';
import * as attachedComponent from './platform/attached-component.js';
import * as attestation from './evidence/attestation.js';
import * as capability from './platform/capability.js';
import * as clock from './platform/clock.js';
import * as commandAudit from './evidence/command-audit.js';
import * as context from './objects/context.js';
import * as countdownTimer from './platform/countdown-timer.js';
import * as dictionaryAttack from './authorization/dictionary-attack.js';
import * as duplication from './objects/duplication.js';
import * as enhancedAuthorization from './authorization/enhanced-authorization.js';
import * as ephemeralEc from './cryptography/ephemeral-ec.js';
import * as fieldUpgrade from './platform/field-upgrade.js';
import * as hashHmac from './cryptography/hash-hmac.js';
import * as hierarchy from './authorization/hierarchy.js';
import * as integrity from './evidence/integrity.js';
import * as management from './platform/management.js';
import * as nv from './objects/nv.js';
import * as object from './objects/object.js';
import * as random from './platform/random.js';
import * as session from './authorization/session.js';
import * as signing from './cryptography/signing.js';
import * as startup from './platform/startup.js';
import * as symmetric from './cryptography/symmetric.js';
import * as testing from './platform/testing.js';
import * as vendor from './platform/vendor.js';

export * from './cryptography/asymmetric.js';
export * from './platform/attached-component.js';
export * from './evidence/attestation.js';
export * from './platform/capability.js';
export * from './platform/clock.js';
export * from './evidence/command-audit.js';
export * from './objects/context.js';
export * from './platform/countdown-timer.js';
export * from './authorization/dictionary-attack.js';
export * from './objects/duplication.js';
export * from './authorization/enhanced-authorization.js';
export * from './cryptography/ephemeral-ec.js';
export * from './platform/field-upgrade.js';
export * from './cryptography/hash-hmac.js';
export * from './authorization/hierarchy.js';
export * from './evidence/integrity.js';
export * from './platform/management.js';
export * from './objects/nv.js';
export * from './objects/object.js';
export * from './platform/random.js';
export * from './authorization/session.js';
export * from './cryptography/signing.js';
export * from './platform/startup.js';
export * from './cryptography/symmetric.js';
export * from './platform/testing.js';
export * from './platform/vendor.js';

const chapters = [
  startup,
  testing,
  session,
  object,
  duplication,
  asymmetric,
  symmetric,
  random,
  hashHmac,
  attestation,
  ephemeralEc,
  signing,
  commandAudit,
  integrity,
  enhancedAuthorization,
  hierarchy,
  dictionaryAttack,
  management,
  fieldUpgrade,
  context,
  clock,
  capability,
  nv,
  attachedComponent,
  countdownTimer,
  vendor,
];

/** Every command by its code, without its types: for a dispatcher, which decodes and encodes by declaration. */
export const commandTable: ReadonlyMap<number, Command> = new Map(
  chapters.flatMap((chapter) => Object.values<Command>(chapter)).map((declaration) => [declaration.code, declaration]),
);
