// TPM 2.0 Library Part 3: all commands, and a table of them by code.
import type { Command } from '../command.js';
import * as asymmetric from './asymmetric.js';
import * as attachedComponent from './attached-component.js';
import * as attestation from './attestation.js';
import * as capability from './capability.js';
import * as clock from './clock.js';
import * as commandAudit from './command-audit.js';
import * as context from './context.js';
import * as countdownTimer from './countdown-timer.js';
import * as dictionaryAttack from './dictionary-attack.js';
import * as duplication from './duplication.js';
import * as enhancedAuthorization from './enhanced-authorization.js';
import * as ephemeralEc from './ephemeral-ec.js';
import * as fieldUpgrade from './field-upgrade.js';
import * as hashHmac from './hash-hmac.js';
import * as hierarchy from './hierarchy.js';
import * as integrity from './integrity.js';
import * as management from './management.js';
import * as nv from './nv.js';
import * as object from './object.js';
import * as random from './random.js';
import * as session from './session.js';
import * as signing from './signing.js';
import * as startup from './startup.js';
import * as symmetric from './symmetric.js';
import * as testing from './testing.js';
import * as vendor from './vendor.js';

export * from './asymmetric.js';
export * from './attached-component.js';
export * from './attestation.js';
export * from './capability.js';
export * from './clock.js';
export * from './command-audit.js';
export * from './context.js';
export * from './countdown-timer.js';
export * from './dictionary-attack.js';
export * from './duplication.js';
export * from './enhanced-authorization.js';
export * from './ephemeral-ec.js';
export * from './field-upgrade.js';
export * from './hash-hmac.js';
export * from './hierarchy.js';
export * from './integrity.js';
export * from './management.js';
export * from './nv.js';
export * from './object.js';
export * from './random.js';
export * from './session.js';
export * from './signing.js';
export * from './startup.js';
export * from './symmetric.js';
export * from './testing.js';
export * from './vendor.js';

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
