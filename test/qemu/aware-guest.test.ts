// Vendor commands through /dev/tpmrm0 of a Linux guest: its resource manager goes by what GetCapability says of each command.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CreatePrimary,
  PolicyGetDigest,
  StartAuthSession,
  Vendor_ListProviders,
  Vendor_PolicyPCR,
  Vendor_Quote,
  Vendor_ReadVector,
} from '../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_CC, TPM_ECC_CURVE, TPM_RH, TPM_SE, TPM_ST, TPMA_OBJECT } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { providerExtraData } from '../../src/tpm/provider-quote.js';
import { decode } from '../../src/tpm/schema.js';
import { TPMS_ATTEST, type TPML_PCR_SELECTION } from '../../src/tpm/structures/index.js';
import { RunningDaemon } from '../support/running-daemon.js';
import { codeOf, none, run, type Execute } from '../support/frames.js';
import { eccTemplate } from '../support/templates.js';
import { debianKernel, hmacKernel } from './debian-kernel.js';
import { Machine, missingForQemu } from './machine.js';

const { SHA256 } = TPM_ALG;
const PCR4: TPML_PCR_SELECTION = [{ hash: SHA256, pcrSelect: Buffer.from([0x10, 0, 0]) }];
const provider = Buffer.from('digest');

/** Linux 6.1 lets no vendor command through /dev/tpmrm0, newer kernels do. */
const kernels = [
  ['Debian 12', debianKernel],
  ['a kernel with CONFIG_TCG_TPM2_HMAC', hmacKernel],
] as const;
/** `TPM_RC_COMMAND_CODE` of the kernel's resource manager. */
const UNKNOWN_TO_KERNEL = 0xb0143;

for (const [kernelName, kernelOf] of kernels)
  describe(`an aware guest under ${kernelName}`, function () {
    this.timeout(400_000);
    let daemon: RunningDaemon;
    let machine: Machine;

    before(async function () {
      const missing = missingForQemu();
      if (missing !== '') {
        console.error(`    not tested: ${missing} not found (scripts/setup installs what is needed)`);
        this.skip();
      }
      const kernel = await kernelOf();
      if (typeof kernel === 'string') {
        console.error(`    not tested: ${kernel}`);
        this.skip();
      }
      daemon = await RunningDaemon.create();
      await daemon.start();
      const policy = JSON.stringify({ version: 1, present: { '0-7': 'certified' } });
      assert.equal((await daemon.ask('POST', '/v1/guests', { name: 'aware', policy })).status, 201);
      const directory = join(daemon.root, 'machine');
      await mkdir(directory);
      const { control } = (await daemon.ask('GET', '/v1/guests/aware')).body;
      machine = await Machine.start({ firmware: 'seabios', device: 'tpm-tis', control, directory, kernel });
      await machine.booted();
    });
    after(async () => {
      await (machine as Machine | undefined)?.kill();
      await (daemon as RunningDaemon | undefined)?.dispose();
    });

    /** As tpmux-guest does: without the vendor bit where the kernel loses it. */
    const execute: Execute = async (frame) => {
      const answer = await send(frame);
      if (codeOf(answer) !== UNKNOWN_TO_KERNEL) return answer;
      const other = Buffer.from(frame);
      other[6] = 0;
      return send(other);
    };

    /** Sends a frame through /dev/tpmrm0, which the shell has open as descriptor 4 all the time: one space of the resource manager. */
    const send: Execute = async (frame) => {
      const bytes = [...frame].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
      const answer = await machine.run(
        `printf '${bytes}' >frame; cat frame >&4; dd bs=4096 count=1 <&4 2>/dev/null | od -An -v -tx1 | tr -d ' \\n'`,
      );
      assert.match(answer, /^([0-9a-f]{2})+$/);
      return Buffer.from(answer, 'hex');
    };

    it('finds the commands in what the TPM lists', async () => {
      const listed = await machine.run('TPM2TOOLS_TCTI=device:/dev/tpmrm0 tpm2 getcap commands');
      assert.match(listed, /0x22005003/i);
    });

    it('uses all of them, with handles that the kernel gave', async () => {
      await machine.run('exec 4<>/dev/tpmrm0');
      const { providers } = await run(execute, Vendor_ListProviders, { first: 0, count: 32 });
      assert.deepEqual(
        providers.map(({ name, presented }) => [name.toString(), presented.toString('hex')]),
        [
          ['digest', '00ffff'],
          ['certified', 'ff0000'],
          ['log', '000000'],
        ],
      );
      const { pcrValues } = await run(execute, Vendor_ReadVector, { provider, pcrSelectionIn: PCR4 });
      const presented = (await daemon.ask('GET', '/v1/guests/aware/pcrs?bank=sha256')).body.banks['sha256']?.[4];
      assert.notEqual(pcrValues[0]?.toString('hex'), presented);

      const session = await run(execute, StartAuthSession, {
        tpmKey: TPM_RH.NULL,
        bind: TPM_RH.NULL,
        nonceCaller: Buffer.alloc(32),
        encryptedSalt: none,
        sessionType: TPM_SE.TRIAL,
        symmetric: { algorithm: TPM_ALG.NULL, keyBits: null, mode: null },
        authHash: SHA256,
      });
      const policySession = session.sessionHandle;
      await run(execute, Vendor_PolicyPCR, { policySession, provider, pcrDigest: none, pcrs: PCR4 });
      const { policyDigest } = await run(execute, PolicyGetDigest, { policySession });
      const assertion = Buffer.alloc(4);
      assertion.writeUInt32BE(TPM_CC.Vendor_PolicyPCR);
      const about = Buffer.from(`0006${provider.toString('hex')}00000001000b03100000`, 'hex');
      const values = hash(SHA256, pcrValues[0] ?? none);
      assert.deepEqual(policyDigest, hash(SHA256, Buffer.alloc(32), assertion, about, values));

      const key = await run(execute, CreatePrimary, {
        primaryHandle: TPM_RH.OWNER,
        inSensitive: { userAuth: none, data: none },
        inPublic: {
          ...eccTemplate(TPM_ECC_CURVE.NIST_P256),
          objectAttributes:
            TPMA_OBJECT.fixedTPM | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.sign,
        },
        outsideInfo: none,
        creationPCR: [],
      });
      assert.equal((key.objectHandle >>> 16).toString(16), '80ff', 'a handle of the kernel, not of the TPM');
      const { quoted } = await run(execute, Vendor_Quote, {
        signHandle: key.objectHandle,
        provider,
        qualifyingData: Buffer.from('nonce'),
        inScheme: { scheme: TPM_ALG.ECDSA, details: { hashAlg: SHA256 } },
        PCRselect: PCR4,
      });
      const attest = decode(TPMS_ATTEST, quoted);
      assert.ok(attest.type === TPM_ST.ATTEST_QUOTE && attest.attested.pcrDigest.equals(values));
      assert.deepEqual(attest.extraData, providerExtraData('digest', Buffer.from('nonce')));
    });
  });
