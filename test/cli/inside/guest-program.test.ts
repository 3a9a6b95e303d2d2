// tpmux-guest over a TCTI, as inside a guest: the matrix, a policy and a quote of a vector of its choice.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { verifyAttestation } from '../../../src/verifier/verify.js';
import { PropertySet } from '../../../src/statements/property-set.js';
import { AwareGuest } from '../../../src/guest-client/aware-guest.js';
import { TPM_ALG, TPMA_CC } from '../../../src/tpm/constants/index.js';
import { hash } from '../../../src/tpm/hash.js';
import { attestation, AttestationBench, issued, type AttestedGuest } from '../../support/attested-guest.js';
import { digestOf } from '../../properties/fixture.js';
import { startSwtpm } from '../../support/swtpm.js';

const MAIN = fileURLToPath(new URL('../../../src/cli/guest-main.ts', import.meta.url));
const { SHA256 } = TPM_ALG;

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function tpmuxGuest(args: readonly string[], tcti: string): Promise<Result> {
  return new Promise((resolve) => {
    const env = { ...process.env, TPM2TOOLS_TCTI: tcti };
    execFile(process.execPath, ['--import', 'tsx', MAIN, ...args], { env }, (error, out, err) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err });
    });
  });
}

describe('tpmux-guest', function () {
  this.timeout(120_000);
  let bench: AttestationBench;
  let guest: AttestedGuest;
  const at = (name: string): string => guest.at(name);
  const client = async (...args: readonly string[]): Promise<string> => {
    const { code, out, err } = await tpmuxGuest(args, guest.tcti);
    assert.equal(code, 0, err);
    return out;
  };
  const digest = hash(SHA256, Buffer.alloc(32), digestOf(SHA256, 'kernel a')).toString('hex');
  const certified = hash(SHA256, Buffer.alloc(32), PropertySet.of({ 'os.level': 3 }).digest(SHA256)).toString('hex');

  before(async () => {
    bench = await AttestationBench.start();
    await bench.state(issued(['kernel a'], { 'os.level': 3 }));
    guest = await bench.guest('aware', { present: { '0-7': 'certified' } });
    await guest.reboot();
    await guest.measure(4, 'kernel a');
  });
  after(() => bench.stop());

  it('lists the providers', async () => {
    assert.deepEqual((await client('providers')).split('\n').slice(0, 3), [
      'PROVIDER   PRESENTED  QUOTED',
      'digest     8-23       8-23',
      'certified  0-7        0-7',
    ]);
    const { providers } = JSON.parse(await client('providers', '--json')) as { providers: { name: string; presented: number[] }[] };
    assert.deepEqual(providers.find(({ name }) => name === 'certified')?.presented, [0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('reads any vector, more than one response has', async () => {
    assert.match(await client('pcr-read', '--provider', 'digest', '--pcrs', 'sha256:4'), new RegExp(`^sha256:4 {3}${digest}\n$`));
    const answer = await client('pcr-read', '--provider', 'certified', '--pcrs', 'sha256:0-23+sha1:4', '--json');
    const { banks } = JSON.parse(answer) as { banks: Record<string, Record<string, string>> };
    assert.equal(banks['sha256']?.['4'], certified);
    assert.deepEqual([Object.keys(banks['sha256'] ?? {}).length, Object.keys(banks['sha1'] ?? {})], [24, ['4']]);
  });

  it('seals to a vector that is not presented', async () => {
    await client('policy-pcr', '--provider', 'digest', '--pcrs', 'sha256:4', '--out', at('policy'));
    await writeFile(at('secret'), 'secret');
    await guest.tool('createprimary', '-C', 'o', '-c', at('primary'));
    await guest.tool('create', '-C', at('primary'), '-L', at('policy'), '-i', at('secret'), '-u', at('s.pub'), '-r', at('s.priv'));
    await guest.tool('flushcontext', '-t');
    await guest.tool('load', '-C', at('primary'), '-u', at('s.pub'), '-r', at('s.priv'), '-c', at('s.ctx'));
    await guest.tool('flushcontext', '-t');
    await guest.tool('evictcontrol', '-C', 'o', '-c', at('s.ctx'), '0x81000001');
    await guest.tool('flushcontext', '-t');
    const unseal = ['unseal', '--object', '0x81000001', '--pcrs', 'sha256:4', '--provider'];
    assert.equal(await client(...unseal, 'digest'), 'secret');
    const refused = await tpmuxGuest([...unseal, 'certified'], guest.tcti);
    assert.equal(refused.code, 3);
    assert.match(refused.err, /^tpmux-guest: unsealing : the TPM answered Unseal with TPM_RC_POLICY_FAIL/);
    assert.doesNotMatch(await guest.tool('getcap', 'handles-loaded-session'), /0x/);
  });

  it('quotes a vector, and tpmux verify takes it for that one only', async () => {
    const key = await guest.attestationKey('rsa', 'rsassa', '0x81010002');
    const nonce = Buffer.from('0123456789');
    const files = ['--message', at('msg'), '--signature', at('sig'), '--public', at('pub')];
    const quote = ['quote', '--key', key, '--provider', 'digest', '--pcrs', 'sha256:0-7', '--nonce', nonce.toString('hex'), ...files];
    await client(...quote);
    const quoted = { quote: await readFile(at('msg')), signature: await readFile(at('sig')), key: await readFile(at('pub')), nonce };
    assert.deepEqual(quoted.key, await readFile(guest.at(`${key}.pub`)));
    const evidence = await guest.evidence('digest');
    const shown = await verifyAttestation(attestation({ ...quoted, evidence }, { mustNameProvider: true }));
    assert.deepEqual(shown.measurements[0]?.properties, [{ name: 'os.level', value: 3 }]);
    await assert.rejects(
      verifyAttestation(attestation({ ...quoted, evidence: await guest.evidence() })),
      /the quote is of the vector of digest/,
    );
    const { quoted: hex } = JSON.parse(await client(...quote, '--json')) as { quoted: string };
    assert.match(hex, /^ff5443478018/);
  });

  it('tells what went wrong, with the exit code for it', async () => {
    const unknown = await tpmuxGuest(['pcr-read', '--provider', 'nobody', '--pcrs', 'sha256:4'], guest.tcti);
    assert.equal(unknown.code, 3);
    assert.match(unknown.err, /^tpmux-guest: reading the vector of nobody : the TPM answered Vendor_ReadVector with TPM_RC_VALUE/);
    const gone = await tpmuxGuest(['providers'], 'swtpm:path=/nonexistent');
    assert.equal(gone.code, 4);
    for (const pcrs of ['sha3:1', 'sha256:24']) {
      assert.equal((await tpmuxGuest(['policy-pcr', '--provider', 'digest', '--pcrs', pcrs], guest.tcti)).code, 2, pcrs);
    }
    assert.equal((await tpmuxGuest([], guest.tcti)).code, 2);
  });

  it('gets through the resource manager of a kernel that knows no vendor commands', async () => {
    const path = guest.at('old.sock');
    const servers = ['', '.ctrl'].map((suffix) =>
      createServer((client) => {
        const server = connect(`${guest.tcti.slice('swtpm:path='.length)}${suffix}`);
        server.pipe(client);
        client.on('data', (data) => {
          // Commands come whole: they are small.
          if (suffix === '' && (data.readUInt32BE(6) & TPMA_CC.V) !== 0) client.write(Buffer.from('80010000000a000b0143', 'hex'));
          else server.write(data);
        });
        for (const [one, other] of [[client, server] as const, [server, client] as const])
          one.on('close', () => other.destroy()).on('error', () => undefined);
      }).listen(`${path}${suffix}`),
    );
    const tpm = await AwareGuest.open(`swtpm:path=${path}`);
    try {
      assert.deepEqual(
        (await tpm.providers()).map(({ name }) => name),
        ['digest', 'certified', 'log'],
      );
      const policy = await tpm.policyDigest('digest', [{ bank: SHA256, pcrs: [4] }]);
      assert.equal(policy.toString('hex'), (await client('policy-pcr', '--provider', 'digest', '--pcrs', 'sha256:4')).trim());
    } finally {
      await tpm.close();
      for (const server of servers) server.close();
    }
  });

  it('says so if the TPM is none of tpmux', async () => {
    const swtpm = await startSwtpm();
    try {
      const foreign = await tpmuxGuest(['providers'], swtpm.tcti);
      assert.equal(foreign.code, 5, foreign.err);
      assert.match(foreign.err, /the TPM knows no property providers \(this needs a guest of tpmux\)/);
    } finally {
      await swtpm.stop();
    }
  });
});
