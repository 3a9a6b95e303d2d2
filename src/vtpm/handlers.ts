import { commandTable } from '../tpm/commands/index.js';
import type { Command } from '../tpm/command.js';
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
  FieldUpgradeStart: 'unsupported',
  FieldUpgradeData: 'unsupported',
  FirmwareRead: 'unsupported',
  AC_GetCapability: 'unsupported',
  AC_Send: 'unsupported',
  Policy_AC_SendSelect: 'unsupported',
  ACT_SetTimeout: 'unsupported',
  Vendor_TCG_Test: 'unsupported',
};

/** The commands that are served, with their handlers. */
export const servedCommands: ServedCommands = new Map(
  [...commandTable].flatMap(([code, command]): [number, { command: Command; handler: AnyHandler }][] => {
    const handler = handlers[command.name as keyof Handlers];
    return handler === 'unsupported' ? [] : [[code, { command, handler }]];
  }),
);
