// All endpoints of the control API.
import * as v from 'valibot';
import { PCR_BANKS } from '../config/config.js';
import { guestListen } from '../config/listen.js';
import { endpoint } from './endpoint.js';
import { backupView, countersView, guestsView, guestView, importedView, pcrLogView, pcrsView, repairView } from './views/guest.js';
import { auditView, checksView, policyDigestView, resealView, statusView } from './views/host.js';
import { changedPolicyView, policyView, reloadView } from './views/policy.js';
import {
  addedView,
  evidenceView,
  explanationView,
  measurementLogView,
  revocationsView,
  revokedView,
  statementsView,
  statementView,
} from './views/property.js';

const text = v.string();
const name = { name: v.pipe(text, v.description('the name of a guest')) };
const nothing = v.optional(v.strictObject({}));
const secret = v.pipe(text, v.base64());

const host = {
  status: endpoint({ method: 'GET', path: '/v1/status', summary: 'The daemon, its TPM and how many guests it has', answer: statusView }),
  doctor: endpoint({ method: 'GET', path: '/v1/doctor', summary: 'Whether the TPM can do what tpmux needs', answer: checksView }),
  reseal: endpoint({
    method: 'POST',
    path: '/v1/host/reseal',
    summary: 'Seal the state keys of all guests to what the configuration says now',
    body: nothing,
    answer: resealView,
  }),
  policyDigest: endpoint({
    method: 'POST',
    path: '/v1/host/policy-digest',
    summary: 'What the authority signs to approve PCRs of the host',
    body: v.strictObject({
      bank: v.picklist(PCR_BANKS),
      pcrs: v.pipe(v.array(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23))), v.minLength(1)),
      values: v.optional(
        v.pipe(
          v.record(v.pipe(text, v.regex(/^\d{1,2}$/)), v.pipe(text, v.hexadecimal())),
          v.description('what the PCRs will be, by index in hexadecimal; without: as they are now'),
        ),
      ),
    }),
    answer: policyDigestView,
  }),
  audit: endpoint({
    method: 'GET',
    path: '/v1/audit',
    summary: 'The audit log, oldest entry first, and whether it is whole',
    query: { guest: v.optional(v.pipe(text, v.description('entries about this guest only'))) },
    answer: auditView,
  }),
  reloadPolicies: endpoint({
    method: 'POST',
    path: '/v1/policies/reload',
    summary: 'Read the policy classes again and give them to their guests',
    body: nothing,
    answer: reloadView,
  }),
} as const;

const guests = {
  listGuests: endpoint({ method: 'GET', path: '/v1/guests', summary: 'All guests, by name', answer: guestsView }),
  createGuest: endpoint({
    method: 'POST',
    path: '/v1/guests',
    summary: 'Make a guest with a TPM of its own, and start it',
    body: v.strictObject({
      name: text,
      policy: v.optional(v.pipe(text, v.description('text of its policy file, YAML or JSON'))),
      start: v.optional(v.pipe(v.boolean(), v.description('false: leave it off'))),
      recoveryKey: v.optional(v.pipe(text, v.description('X25519 public key in PEM, whose holder may open backups without the TPM'))),
      ...guestListen.entries,
    }),
    status: 201,
    answer: guestView,
    errors: ['guest_exists', 'bad_name', 'bad_policy', 'bad_recovery_key', 'no_provider', 'port_taken', 'line_taken', 'shutting_down'],
  }),
  showGuest: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}',
    summary: 'One guest',
    params: name,
    answer: guestView,
    errors: ['guest_not_found'],
  }),
  removeGuest: endpoint({
    method: 'DELETE',
    path: '/v1/guests/{name}',
    summary: 'Delete a guest, its keys and all its state for ever',
    params: name,
    answer: v.object({ removed: text }),
    errors: ['guest_not_found'],
  }),
  startGuest: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/start',
    summary: 'Open the TPM of a guest and power it on',
    params: name,
    body: nothing,
    answer: guestView,
    errors: ['guest_not_found', 'bad_policy', 'store', 'rollback', 'tpm_unreachable'],
  }),
  stopGuest: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/stop',
    summary: 'Power the TPM of a guest off and close it',
    params: name,
    body: nothing,
    answer: guestView,
    errors: ['guest_not_found'],
  }),
  resetGuest: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/reset',
    summary: 'Power-cycle the TPM of a running guest, or start one without the volatile state that was refused',
    params: name,
    body: nothing,
    answer: guestView,
    errors: ['guest_not_found'],
  }),
  attachDevice: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/device',
    summary: 'Make a TPM device on this host, now and each time that the guest starts',
    params: name,
    body: nothing,
    answer: guestView,
    errors: ['guest_not_found', 'guest_not_running', 'no_device'],
  }),
  detachDevice: endpoint({
    method: 'DELETE',
    path: '/v1/guests/{name}/device',
    summary: 'Take the TPM device away',
    params: name,
    answer: guestView,
    errors: ['guest_not_found'],
  }),
  showPolicy: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/policy',
    summary: "A guest's policy, as it is in force",
    params: name,
    answer: policyView,
    errors: ['guest_not_found'],
  }),
  setPolicy: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/policy',
    summary: 'Give a guest another policy, or none',
    params: name,
    body: v.strictObject({ policy: v.pipe(v.nullable(text), v.description('text of the policy file; null: none')) }),
    answer: changedPolicyView,
    errors: ['guest_not_found', 'bad_policy', 'policy_fixed', 'no_provider'],
  }),
  readPcrs: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/pcrs',
    summary: "A guest's PCRs as it sees them",
    params: name,
    query: { bank: v.optional(v.pipe(text, v.description('only this bank, e.g. sha256'))) },
    answer: pcrsView,
    errors: ['guest_not_found', 'guest_not_running', 'no_bank'],
  }),
  readPcrLog: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/pcr-log',
    summary: "What happened to a guest's PCRs since it was started",
    params: name,
    answer: pcrLogView,
    errors: ['guest_not_found', 'guest_not_running'],
  }),
  readCounters: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/counters',
    summary: "What a guest's commands cost in the hardware TPM",
    params: name,
    answer: countersView,
    errors: ['guest_not_found', 'guest_not_running'],
  }),
  exportGuest: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/export',
    summary: 'A backup of a guest, which may run',
    params: name,
    body: nothing,
    answer: backupView,
    errors: ['guest_not_found', 'store'],
  }),
  importGuest: endpoint({
    method: 'POST',
    path: '/v1/import',
    summary: 'Bring a guest back from a backup',
    body: v.strictObject({
      backup: v.pipe(text, v.description('the backup file')),
      replace: v.optional(v.pipe(v.boolean(), v.description('the guest may take the place of itself'))),
      recovered: v.optional(
        v.pipe(
          v.strictObject({ stateKey: secret, recoveryKey: secret }),
          v.description('for a backup of another TPM: its state key, and the public recovery key, 32 bytes each in base64'),
        ),
      ),
    }),
    status: 201,
    answer: importedView,
    errors: ['bad_backup', 'guest_exists', 'port_taken', 'line_taken', 'shutting_down'],
  }),
  repairGuest: endpoint({
    method: 'POST',
    path: '/v1/guests/{name}/repair',
    summary: 'What is left of a guest whose state is damaged, and going on with that',
    params: name,
    body: v.strictObject({ apply: v.pipe(v.boolean(), v.description('false: change nothing')) }),
    answer: repairView,
    errors: ['guest_not_found', 'guest_running', 'not_repairable'],
  }),
} as const;

const properties = {
  listStatements: endpoint({
    method: 'GET',
    path: '/v1/properties/statements',
    summary: 'All property statements, and whether they are in force',
    answer: statementsView,
  }),
  addStatements: endpoint({
    method: 'POST',
    path: '/v1/properties/statements',
    summary: 'Take signed statements; guests go by them from their next reset on',
    description: 'A statement that is refused ends the request; those before it are taken.',
    body: v.strictObject({ envelopes: v.pipe(v.array(text), v.minLength(1), v.maxLength(1000)) }),
    status: 201,
    answer: addedView,
  }),
  showStatement: endpoint({
    method: 'GET',
    path: '/v1/properties/statements/{id}',
    summary: 'One statement, with its envelope',
    params: { id: v.pipe(text, v.description('identifier of the statement')) },
    answer: statementView,
    errors: ['statement_not_found'],
  }),
  removeStatement: endpoint({
    method: 'DELETE',
    path: '/v1/properties/statements/{id}',
    summary: 'Forget a statement; whoever has it can add it again, so this is no revocation',
    params: { id: v.pipe(text, v.description('identifier of the statement')) },
    answer: v.object({ removed: text }),
    errors: ['statement_not_found'],
  }),
  addRevocations: endpoint({
    method: 'POST',
    path: '/v1/properties/revocations',
    summary: 'Take a signed revocation list',
    body: v.strictObject({ envelope: text }),
    status: 201,
    answer: revokedView,
  }),
  showRevocations: endpoint({
    method: 'GET',
    path: '/v1/properties/revocations/{issuer}',
    summary: 'The revocation list of an issuer',
    params: { issuer: v.pipe(text, v.description('the name of an issuer')) },
    answer: revocationsView,
  }),
  explainDigest: endpoint({
    method: 'GET',
    path: '/v1/properties/explain',
    summary: 'What a digest means, and which statements count or do not, and why',
    query: { digest: v.pipe(text, v.description('e.g. sha256:9f86…')) },
    answer: explanationView,
  }),
  readLog: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/log',
    summary: "A guest's measurement log",
    params: name,
    query: { tcg: v.optional(v.pipe(text, v.description('a provider: its log in the TCG format instead of JSON'))) },
    answer: measurementLogView,
    errors: ['guest_not_found', 'guest_not_running', 'no_log', 'log_incomplete'],
  }),
  readEvidence: endpoint({
    method: 'GET',
    path: '/v1/guests/{name}/evidence',
    summary: "What a verifier needs beside a guest's quote",
    params: name,
    query: { provider: v.optional(v.pipe(text, v.description("for a quote of this provider's vector"))) },
    answer: evidenceView,
    errors: ['guest_not_found', 'guest_not_running', 'no_evidence'],
  }),
} as const;

/** Endpoints by name. */
export const API = { ...host, ...guests, ...properties } as const;
export type Api = typeof API;
export type EndpointName = keyof Api;
