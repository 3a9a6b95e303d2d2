// What each command of Part 3 is served by and what it costs the chip: the contents of docs/commands.md.
import { commandTable } from '../tpm/commands/index.js';
import { servedCommands } from './handlers.js';

/** Commands that use a private key, and what the chip does for them when it holds the key. */
const keyUse: Readonly<Record<string, string>> = {
  StartAuthSession: 'one operation if it is salted to a key in the chip, otherwise none',
  CreatePrimary: 'a key generation the first time, none for the same template again',
  Create: 'a key generation; none for a secret',
  CreateLoaded: 'a key generation; none for a secret, for the same primary again and for derived keys',
  ActivateCredential: 'one operation',
  Unseal: 'one operation',
  Duplicate: 'six commands for a key, one for a secret',
  Rewrap: 'one operation',
  Import: 'one command for a key, none for a secret',
  RSA_Decrypt: 'one operation',
  ECDH_ZGen: 'one operation',
  ZGen_2Phase: 'one operation',
  EncryptDecrypt: 'one operation, which opens the key',
  EncryptDecrypt2: 'one operation, which opens the key',
  HMAC: 'one operation, which opens the key',
  HMAC_Start: 'one operation, which opens the key',
  Certify: 'one operation',
  CertifyCreation: 'one operation',
  Quote: 'one operation',
  GetSessionAuditDigest: 'one operation',
  GetCommandAuditDigest: 'one operation',
  GetTime: 'one operation',
  CertifyX509: 'one operation',
  NV_Certify: 'one operation',
  Sign: 'one operation',
  VerifySignature: 'none; for an HMAC one operation, which opens the key',
  Vendor_Quote: 'one operation',
};

/** Sorts `9.3` before `10.2`, and the sections `V.n` of our own commands last. */
function bySection(a: string, b: string): number {
  const [x, y] = [a, b].map((section) => section.replace('V', '1000').split('.').map(Number)) as [number[], number[]];
  return x.map((part, i) => part - (y[i] ?? 0)).find((difference) => difference !== 0) ?? 0;
}

const header = `# Commands

Every command of TPM 2.0 Library Part 3 (revision 1.59), who serves it and what it costs the chip. Sections \`V.n\` are vendor commands, for
[aware guests](aware-guests.md). This page is made by \`npm run docs:commands\`; a test fails when it is stale.

"One operation" is one hardware command if the key is in a slot of the chip, at most three if it is not but its context is saved (flush,
load the context, operate), and a few more the first time a key is used (its parent and the key itself are loaded). Keys of the NULL
hierarchy, derived keys and keys that the chip cannot hold are software keys and cost nothing. Everything else tpmux does itself.

| command | section | served by | hardware cost |
| --- | --- | --- | --- |
`;

/** The page, in Markdown. */
export function commandReference(): string {
  const rows = [...commandTable.values()]
    .sort((a, b) => bySection(a.section, b.section))
    .map(({ code, name, section }) => {
      const use = keyUse[name];
      const served = !servedCommands.has(code) ? 'not served (`TPM_RC_COMMAND_CODE`)' : use === undefined ? 'tpmux' : 'tpmux and the chip';
      return `| \`${name}\` | ${section} | ${served} | ${servedCommands.has(code) ? (use ?? 'none') : '–'} |`;
    });
  return `${header}${rows.join('\n')}\n`;
}
