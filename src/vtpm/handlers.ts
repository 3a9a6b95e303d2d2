import { commandTable } from '../tpm/commands/index.js';
import { isOwnCommand, withoutVendorBit, type Command } from '../tpm/command.js';
import type { AnyHandler, Handlers, ServedCommands } from './dispatch/handler.js';
import { asymmetricHandlers } from './commands/asymmetric.js';
import { attestationHandlers } from './commands/attestation.js';
import { capabilityHandlers } from './commands/capability.js';
import { clockHandlers } from './commands/clock.js';
import { commandAuditHandlers } from './commands/command-audit.js';
import { contextHandlers } from './commands/context.js';
import { dictionaryAttackHandlers } from './commands/dictionary-attack.js';
import { duplicationHandlers } from './commands/duplication.js';
import { enhancedAuthorizationHandlers } from './commands/enhanced-authorization.js';
import { ephemeralEcHandlers } from './commands/ephemeral-ec.js';
import { hashHmacHandlers } from './commands/hash-hmac.js';
import { hierarchyHandlers } from './commands/hierarchy.js';
import { integrityHandlers } from './commands/integrity.js';
import { managementHandlers } from './commands/management.js';
import { nvCertifyHandlers } from './commands/nv-certify.js';
import { nvHandlers } from './commands/nv.js';
import { objectHandlers } from './commands/object.js';
import { randomHandlers } from './commands/random.js';
import { sessionHandlers } from './commands/session.js';
import { signingHandlers } from './commands/signing.js';
import { startupHandlers } from './commands/startup.js';
import { symmetricHandlers } from './commands/symmetric.js';
import { testingHandlers } from './commands/testing.js';
import { vendorHandlers } from './commands/vendor.js';
import { x509Handlers } from './commands/x509.js';

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
