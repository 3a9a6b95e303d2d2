// Policy files: what is accepted, what an error says, and what a class and a guest's own values come to.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Failure } from '../../src/failure.js';
import { GuestPolicy, overlay } from '../../src/policy/guest-policy.js';
import { defaultLimits, LIMIT_NAMES, LIMIT_SETTINGS, limitsOf } from '../../src/config/limits.js';
import { formatPcrList, parsePcrList } from '../../src/policy/pcr-list.js';
import { MAX_POLICY_SIZE, parsePolicy } from '../../src/policy/policy-file.js';
import { TPM_ALG, TPM_RH } from '../../src/tpm/constants/index.js';

const read = (text: string): GuestPolicy => new GuestPolicy(parsePolicy('web.yaml', text), 'web.yaml');

function refuses(text: string, why: RegExp): void {
  assert.throws(
    () => read(text),
    (error: unknown) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.exit, 2);
      assert.equal(error.what, 'reading the policy web.yaml');
      assert.match(error.why, why);
      return true;
    },
  );
}

describe('a policy file', () => {
  it('that says nothing is an ordinary TPM with its keys in hardware', () => {
    const policy = read('version: 1');
    assert.deepEqual(policy.providers, ['digest', 'log']);
    for (let index = 0; index < 24; index++) {
      assert.equal(policy.presentedProvider(index), 'digest');
      assert.equal(policy.attestProvider(index), 'digest');
    }
    assert.deepEqual(policy.reveal, { properties: 'all', digests: 'reveal' });
    assert.equal(policy.migration.allowed, true);
    assert.deepEqual(limitsOf(policy.limits), defaultLimits);
    for (const [hierarchy, type] of [
      [TPM_RH.OWNER, TPM_ALG.RSA],
      [undefined, TPM_ALG.ECC],
    ] as const) {
      assert.equal(policy.engineFor(hierarchy, type), 'hardware');
    }
  });

  it('presents providers by single PCRs, ranges and lists, and needs no list of providers for that', () => {
    const policy = read('version: 1\npresent:\n  0-3,5: certified\n  7: mine\n  8,9: platform\n  default: log\n');
    const names = ['certified', 'certified', 'certified', 'certified', 'log'];
    const presented = Array.from({ length: 10 }, (_, index) => policy.presentedProvider(index));
    assert.deepEqual(presented, [...names, 'certified', 'log', 'mine', 'platform', 'platform']);
    assert.deepEqual([...policy.providers].sort(), ['certified', 'digest', 'log', 'mine', 'platform']);
    assert.equal(read('{"version": 1, "present": {"0-7": "certified"}}').presentedProvider(7), 'certified');
  });

  it('attests by another provider, and reveals by patterns', () => {
    const policy = read('version: 1\nattest: {provider: certified, reveal: [os.*, good], digests: hide}');
    assert.equal(policy.presentedProvider(0), 'digest');
    assert.equal(policy.attestProvider(0), 'certified');
    assert.ok(policy.providers.includes('certified'));
    assert.deepEqual(
      ['os.level', 'good', 'better'].map((name) => policy.reveals(name)),
      [true, true, false],
    );
    assert.equal(read('version: 1\nattest: {reveal: none}').reveals('os.level'), false);
  });

  it('puts a key in hardware only if its hierarchy and its type are', () => {
    const policy = read('version: 1\nkeys:\n  platform: software\n  null: software\n  types: {keyedhash: software}\n');
    const engine = (hierarchy: number | undefined, type: number): string => policy.engineFor(hierarchy, type);
    assert.equal(engine(TPM_RH.OWNER, TPM_ALG.RSA), 'hardware');
    assert.equal(engine(TPM_RH.PLATFORM, TPM_ALG.RSA), 'software');
    assert.equal(engine(TPM_RH.ENDORSEMENT, TPM_ALG.KEYEDHASH), 'software');
    assert.equal(engine(undefined, TPM_ALG.KEYEDHASH), 'software');
  });

  it('is refused with file, place and what was expected', () => {
    refuses('present: {}', /^version: it is missing$/);
    refuses('version: 2', /^version: Expected 1$/);
    refuses('- version: 1', /^the file: Expected settings by name/);
    refuses('version: 1\ncolor: red', /^color: there is no such setting$/);
    refuses('version: 1\npresent: {0-24: certified}', /^present\.0-24: Expected PCRs such as 0-7 or 8,9 \(0 to 23\), or default$/);
    refuses('version: 1\npresent: {7-0: certified}', /^present\.7-0: Expected PCRs/);
    refuses('version: 1\npresent: {0-7: certified, 7: digest}', /^present: Expected each PCR once$/);
    refuses('version: 1\npresent: {0: Certified}', /^present\.0: Expected the name of a provider/);
    refuses('version: 1\npresent: {0: certified}\nproviders: [digest]', /^providers: Expected certified among them/);
    refuses('version: 1\nproviders: [digest, digest]', /^providers: Expected each one once$/);
    refuses('version: 1\nproviders: []', /^providers: Expected at least one$/);
    refuses('version: 1\nattest: {reveal: some}', /^attest\.reveal: Expected all, none or a list/);
    refuses('version: 1\nunknown: ignore', /^unknown: Expected value, distinct or refuse$/);
    refuses('version: 1\nkeys: {owner: paper}', /^keys\.owner: Expected hardware or software$/);
    refuses('version: 1\nkeys: {"null": hardware}', /^keys\.null: Expected software/);
    refuses('version: 1\nkeys: {owner: software, anchored: [owner]}', /^keys\.anchored: Expected hierarchies .* keys\.owner is software$/);
    refuses('version: 1\nlimits: {nv-bytes: 1}', /^limits\.nv-bytes: Expected a number from 8192 to 1048576$/);
    refuses('version: 1\nlimits: {cores: 1}', /^limits\.cores: there is no such setting$/);
    refuses('version: 1\nmigration: {allowed: maybe}', /^migration\.allowed: Expected true or false$/);
    refuses('version: 1\nclass: ../etc/passwd', /^class: Expected the name of a class/);
    refuses('version: 1\nversion: 1', /^line 2 is not YAML/);
    refuses('version: 1\nclass: *nothing', /class|alias|anchor/i);
    refuses(`version: 1 # ${'x'.repeat(MAX_POLICY_SIZE)}`, /more than 65536 characters/);
  });

  it('overrides its class value by value', () => {
    const base = parsePolicy(
      'class.yaml',
      'version: 1\npresent: {0-7: certified, default: log}\nattest: {reveal: none}\nlimits: {nv-indices: 16, nv-bytes: 8192}\nkeys: {types: {rsa: software}}',
    );
    const own = parsePolicy('web.yaml', 'version: 1\nclass: c\npresent: {4: digest}\nlimits: {nv-bytes: 16384}\nattest: {digests: hide}');
    const policy = new GuestPolicy(overlay(base, own));
    assert.deepEqual(
      [3, 4, 5, 8].map((index) => policy.presentedProvider(index)),
      ['certified', 'digest', 'certified', 'log'],
    );
    assert.deepEqual(policy.limits, { 'nv-indices': 16, 'nv-bytes': 16384 });
    assert.deepEqual(policy.reveal, { properties: 'none', digests: 'hide' });
    assert.equal(policy.engineFor(TPM_RH.OWNER, TPM_ALG.RSA), 'software');
    assert.equal(policy.settings.class, undefined);
  });

  it('that is written out whole is the same policy', () => {
    const lists = fc.uniqueArray(fc.integer({ min: 0, max: 23 }), { maxLength: 24 });
    const provider = fc.constantFrom('digest', 'certified', 'platform', 'log', 'mine');
    const file = fc.record(
      {
        present: fc.tuple(lists, provider, provider).map(([indices, some, others]) => ({
          ...(indices.length === 0 ? {} : { [formatPcrList([...indices].sort((a, b) => a - b))]: some }),
          default: others,
        })),
        unknown: fc.constantFrom('value', 'distinct', 'refuse'),
        attest: fc.record({ provider, reveal: fc.constantFrom('all', 'none', ['os.*']), digests: fc.constantFrom('reveal', 'hide') }),
        keys: fc.record({ owner: fc.constantFrom('hardware', 'software'), anchored: fc.constantFrom('none', ['endorsement']) }),
        migration: fc.record({ allowed: fc.boolean(), require: fc.constant({ 'os.level': 3 }), issuers: fc.constant(['a@b']) }),
        limits: fc.record({ 'nv-indices': fc.integer({ min: 8, max: 4096 }) }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(file, (settings) => {
        const once = read(JSON.stringify({ version: 1, ...settings }));
        const again = read(JSON.stringify(once.settings));
        assert.deepEqual(again.settings, once.settings);
        assert.equal(again.hash, once.hash);
        for (let index = 0; index < 24; index++) assert.equal(again.presentedProvider(index), once.presentedProvider(index));
      }),
    );
  });
});

describe('lists of PCRs', () => {
  it('are read as they are written', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 1 }), (indices) => {
        const sorted = [...indices].sort((a, b) => a - b);
        assert.deepEqual(parsePcrList(formatPcrList(sorted)), sorted);
      }),
    );
    for (const wrong of ['', '24', '3-1', '1,,2', '-1', '1-', 'a', '1 2', '0x1']) assert.equal(parsePcrList(wrong), undefined);
    assert.deepEqual(parsePcrList(' 1 , 3 - 4 '), [1, 3, 4]);
  });
});

describe('limits', () => {
  it('are within their bounds by default, and the first section that names one counts', () => {
    for (const name of LIMIT_NAMES) {
      const { normal, least, most } = LIMIT_SETTINGS[name];
      assert.ok(least <= normal && normal <= most, name);
    }
    assert.equal(limitsOf({ 'nv-bytes': 9000 }, { 'nv-bytes': 10000, 'nv-indices': 9 }).nvBytes, 9000);
    assert.equal(limitsOf({}, { 'nv-indices': 9 }).nvIndices, 9);
  });
});
