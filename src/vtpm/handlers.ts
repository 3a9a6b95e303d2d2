import { commandTable } from '../tpm/commands/index.js';
import { isOwnCommand, withoutVendorBit, type Command } from '../tpm/command.js';
import type { AnyHandler, Handlers, ServedCommands } from './dispatch/handler.js';
import { asymmetricHandlers } from './commands/cryptography/asymmetric.js';
import { attestationHandlers } from './commands/evidence/attestation/attestation.js';
import { capabilityHandlers } from './commands/platform/capability.js';
import { clockHandlers } from './commands/platform/clock.js';
import { commandAuditHandlers } from './commands/evidence/command-audit.js';
import { contextHandlers } from './commands/objects/context.js';
import { dictionaryAttackHandlers } from './commands/authorization/dictionary-attack.js';
import { duplicationHandlers } from './commands/objects/duplication.js';
import { enhancedAuthorizationHandlers } from './commands/authorization/enhanced-authorization/enhanced-authorization.js';
import { ephemeralEcHandlers } from './commands/cryptography/ephemeral-ec.js';
import { hashHmacHandlers } from './commands/cryptography/hash-hmac.js';
import { hierarchyHandlers } from './commands/authorization/hierarchy.js';
import { integrityHandlers } from './commands/evidence/integrity.js';
import { managementHandlers } from './commands/platform/management.js';
import { nvCertifyHandlers } from './commands/objects/nv/nv-certify.js';
import { nvHandlers } from './commands/objects/nv/nv.js';
import { objectHandlers } from './commands/objects/object/object.js';
import { randomHandlers } from './commands/platform/random.js';
import { sessionHandlers } from './commands/authorization/session.js';
import { signingHandlers } from './commands/cryptography/signing.js';
import { startupHandlers } from './commands/platform/startup.js';
import { symmetricHandlers } from './commands/cryptography/symmetric.js';
import { testingHandlers } from './commands/platform/testing.js';
import { vendorHandlers } from './commands/platform/vendor.js';
import { x509Handlers } from './commands/evidence/attestation/x509.js';

/** Every command of Part 3: who handles it, or that it is not served. This table is what GetCapability reports. */
const handlers: Handlers = {
  ...startupHandlers,
  ...testingHandlers,
  ...sessionHandlers,
  ...objectHandlers,
  ...duplicationHandlers,
  ...asymmetricHandlers,
  ...symmetricHandlers,
  ...randomHandlers,
  ...hashHmacHandlers,
  ...attestationHandlers,
  ...x509Handlers,
  ...ephemeralEcHandlers,
  ...signingHandlers,
  ...commandAuditHandlers,
  ...integrityHandlers,
  ...enhancedAuthorizationHandlers,
  ...hierarchyHandlers,
  ...dictionaryAttackHandlers,
  ...managementHandlers,
  ...contextHandlers,
  ...clockHandlers,
  ...capabilityHandlers,
  ...nvHandlers,
  ...nvCertifyHandlers,
  ...vendorHandlers,
  FieldUpgradeStart: 'unsupported',
  FieldUpgradeData: 'unsupported',
  FirmwareRead: 'unsupported',
  AC_GetCapability: 'unsupported',
  AC_Send: 'unsupported',
  Policy_AC_SendSelect: 'unsupported',
  ACT_SetTimeout: 'unsupported',
  Vendor_TCG_Test: 'unsupported',
};

/**
 * The commands that are served, with their handlers. Vendor commands are there a second time without the vendor bit: Linux 6.1 and older
 * find no command that has it, and so let none through /dev/tpmrm0.
 */
export const servedCommands: ServedCommands = new Map(
  [...commandTable.values()].flatMap((command): [number, { command: Command; handler: AnyHandler }][] => {
    const handler = handlers[command.name as keyof Handlers];
    if (handler === 'unsupported') return [];
    const codes = isOwnCommand(command) ? [command, withoutVendorBit(command)] : [command];
    return codes.map((one) => [one.code, { command: one, handler }]);
  }),
);
