// Statements: who may say what, and when it counts.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { canonicalJson } from '../../src/statements/canonical-json.js';
import { Catalog, type RevocationAnchor } from '../../src/statements/catalog.js';
import { parseEnvelope, preAuthEncoding, signersOf } from '../../src/statements/dsse.js';
import { PropertyError, type PropertyErrorCode } from '../../src/statements/property-error.js';
import { matchesPattern, PropertySet } from '../../src/statements/property-set.js';
import { issueRevocations, type Revocation } from '../../src/statements/revocation.js';
import { readPrivateKey, readPublicKey, verifyWith } from '../../src/statements/signing-keys.js';
import { issueStatement, payloadId, readStatement } from '../../src/statements/statement.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { BANKS, digestOf, ISSUER, key, KEY_KINDS, newKey, statement, subject, temporaryDirectory, trustIn } from '../properties/fixture.js';

const refused = (code: PropertyErrorCode) => (error: unknown) => error instanceof PropertyError && error.code === code;
const idOf = (envelope: string): string => payloadId(parseEnvelope(envelope).payload);

describe('canonical JSON', () => {
  it('RFC 8785, 3.2.2 and 3.2.3', () => {
    const value = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    ) as unknown;
    assert.equal(
      canonicalJson(value),
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
    const sorted = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 };
    assert.deepEqual(Object.values(JSON.parse(canonicalJson(sorted)) as object), [4, 2, 6, 7, 1, 5, 3]);
  });

  it('refuses what JSON cannot hold', () => {
    for (const value of [NaN, Infinity, undefined, () => 1, 1n, '\ud800', new Date(0)])
      assert.throws(() => canonicalJson(value), TypeError);
  });

  it('is JSON of the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        let text;
        try {
          text = canonicalJson(value);
        } catch (error) {
          assert.ok(error instanceof TypeError);
          return;
        }
        assert.equal(canonicalJson(JSON.parse(text)), text);
      }),
    );
  });
});

describe('property sets', () => {
  it('equal sets have equal digests, whatever their order', () => {
    const one = PropertySet.of({ b: 1, a: 'x' });
    const other = PropertySet.of({ a: 'x' }).union([PropertySet.of({ b: 1 }), PropertySet.of({ a: 'x' })]);
    assert.equal(one.canonical, '{"properties":{"a":["x"],"b":[1]},"type":"urn:tpmux:property-set:v1"}');
    assert.equal(other.canonical, one.canonical);
    for (const bank of BANKS) assert.deepEqual(one.digest(bank), digestOf(bank, one.canonical));
    assert.notDeepEqual(PropertySet.of({ b: '1', a: 'x' }).digest(TPM_ALG.SHA256), one.digest(TPM_ALG.SHA256));
  });

  it('patterns', () => {
    for (const [pattern, name, expected] of [
      ['*', 'os.level', true],
      ['os.*', 'os.level', true],
      ['os.*', 'osx', false],
      ['*.level', 'os.level', true],
      ['o*.l*l', 'os.level', true],
      ['os*os', 'os', false],
      ['a*b*b', 'ab', false],
      ['os.level', 'os.levels', false],
    ] as const) {
      assert.equal(matchesPattern(pattern, name), expected, `${pattern} ${name}`);
    }
  });
});

describe('DSSE', () => {
  // The example of the DSSE specification, protocol.md.
  const payloadType = 'http://example.com/HelloWorld';
  const decimal = (number: string): string => Buffer.from(BigInt(number).toString(16).padStart(64, '0'), 'hex').toString('base64url');
  const example = {
    payload: 'aGVsbG8gd29ybGQ=',
    payloadType,
    signatures: [{ sig: 'A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==' }],
  };
  const exampleKey = readPublicKey(
    createPublicKey({
      format: 'jwk',
      key: {
        kty: 'EC',
        crv: 'P-256',
        x: decimal('46950820868899156662930047687818585632848591499744589407958293238635476079160'),
        y: decimal('5640078356564379163099075877009565129882514886557779369047442380624545832820'),
      },
    })
      .export({ type: 'spki', format: 'pem' })
      .toString(),
  );

  it('encodes what is signed', () => {
    assert.equal(
      preAuthEncoding(payloadType, Buffer.from('hello world')).toString(),
      'DSSEv1 29 http://example.com/HelloWorld 11 hello world',
    );
    assert.equal(preAuthEncoding('é', Buffer.alloc(0)).toString(), 'DSSEv1 2 é 0 ');
  });

  it('verifies the example of the specification, and nothing near it', () => {
    assert.deepEqual(signersOf(parseEnvelope(JSON.stringify(example)), [exampleKey, key]), [exampleKey]);
    const changed = parseEnvelope(JSON.stringify({ ...example, payload: Buffer.from('hello worle').toString('base64') }));
    assert.deepEqual(signersOf(changed, [exampleKey]), []);
    assert.deepEqual(signersOf(parseEnvelope(JSON.stringify({ ...example, payloadType: 'x' })), [exampleKey]), []);
  });

  it('refuses what is no envelope', () => {
    for (const text of [
      '',
      '{}',
      '[]',
      'null',
      '{"payloadType":"x","payload":"!","signatures":[{"sig":"AA=="}]}',
      '{"payloadType":"x","payload":"","signatures":[]}',
    ]) {
      assert.throws(() => parseEnvelope(text), refused('malformed'), text);
    }
  });

  it('any bytes are either refused or an envelope', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.throws(() => parseEnvelope(text), PropertyError);
      }),
    );
  });

  it('takes RSA signatures with PKCS #1 v1.5 too', () => {
    const own = newKey('rsa');
    const data = Buffer.from('data');
    assert.ok(verifyWith(own, data, sign('sha256', data, own.privateKey)));
    assert.ok(!verifyWith(own, Buffer.from('date'), sign('sha256', data, own.privateKey)));
  });

  it('takes no other keys', () => {
    for (const pair of [
      generateKeyPairSync('ec', { namedCurve: 'P-384' }),
      generateKeyPairSync('rsa', { modulusLength: 1024 }),
      generateKeyPairSync('ed448'),
    ]) {
      assert.throws(() => readPrivateKey(pair.privateKey.export({ type: 'pkcs8', format: 'pem' })), refused('unsupported_key'));
    }
    assert.throws(() => readPublicKey('nothing'), refused('unsupported_key'));
  });
});

describe('property statements', () => {
  const directory = temporaryDirectory();
  const open = (changes: Partial<Parameters<typeof Catalog.open>[0]> = {}): Promise<Catalog> =>
    Catalog.open({ directory: directory(), trust: trustIn({}), ...changes });
  const kernel = digestOf(TPM_ALG.SHA256, 'kernel');
  const lookup = (catalog: Catalog): string | undefined => catalog.snapshot().lookup(TPM_ALG.SHA256, kernel)?.canonical;
  const good = PropertySet.of({ good: true }).canonical;

  it('are in-toto statements', () => {
    const { payloadType, payload } = parseEnvelope(statement(['kernel'], { good: true }));
    const said = JSON.parse(payload.toString()) as Record<string, unknown>;
    assert.equal(payloadType, 'application/vnd.in-toto+json');
    assert.equal(said['_type'], 'https://in-toto.io/Statement/v1');
    assert.deepEqual(said['subject'], [subject('kernel')]);
    assert.deepEqual(Object.keys(said['predicate'] as object), ['issuer', 'properties', 'validity']);
  });

  it('that are not well-formed are not made, and not read', () => {
    const about = (change: object): string =>
      issueStatement(
        { subjects: [subject('x')], issuer: ISSUER, properties: { a: 1 }, notBefore: new Date(0), notAfter: new Date(10_000), ...change },
        key,
      );
    for (const change of [
      { subjects: [] },
      { subjects: [{ name: 'x', digest: {} }] },
      { subjects: [{ name: 'x', digest: { sha256: 'AA'.repeat(32) } }] },
      { subjects: [{ name: 'x', digest: { sha256: 'aa'.repeat(20) } }] },
      { subjects: [{ name: 'x', digest: { md5: 'aa'.repeat(16) } }] },
      { issuer: 'two words' },
      { properties: {} },
      { properties: { 'A B': 1 } },
      { properties: { a: 1.5 } },
      { properties: { a: null } },
      { properties: { a: 'x'.repeat(257) } },
      { notAfter: new Date(0) },
    ]) {
      assert.throws(() => about(change), refused('malformed'), JSON.stringify(change));
    }
    const { payload } = parseEnvelope(about({}));
    const payloadType = 'application/vnd.in-toto+json';
    for (const [from, to] of [
      ['"issuer"', '"extra":1,"issuer"'],
      ['urn:tpmux:predicate:properties:v1', 'https://slsa.dev/provenance/v1'],
      ['Statement/v1', 'Statement/v0.1'],
      ['1970-01-01T00:00:00Z', '1970-01-01'],
      ['1970-01-01T00:00:00Z', '1970-02-31T00:00:00'],
    ] as const) {
      const changed = Buffer.from(payload.toString().replace(from, to));
      assert.notDeepEqual(changed, payload);
      assert.throws(() => readStatement({ payloadType, payload: changed, signatures: [] }), refused('malformed'), to);
    }
  });

  for (const kind of KEY_KINDS) {
    it(`are signed with ${kind}`, async () => {
      const own = newKey(kind);
      const catalog = await open({ trust: trustIn({ key: own }) });
      await catalog.add(statement(['kernel'], { good: true }, {}, own));
      assert.equal(lookup(catalog), good);
    });
  }

  it('count when they were added, and after a restart', async () => {
    const catalog = await open();
    const { id } = await catalog.add(statement(['kernel', 'other'], { good: true }));
    assert.equal(lookup(catalog), good);
    const again = await open();
    assert.equal(lookup(again), good);
    assert.equal(again.size, 1);
    assert.equal(idOf(again.get(id)?.envelope ?? ''), id);
    assert.equal(again.snapshot().lookup(TPM_ALG.SHA1, kernel), undefined, 'another bank');
    assert.equal(await again.remove(id), true);
    assert.equal(lookup(again), undefined);
    assert.equal((await open()).size, 0);
  });

  it('several about one thing add up', async () => {
    const catalog = await open();
    await catalog.add(statement(['kernel'], { good: true, level: 1 }));
    const { id } = await catalog.add(statement(['kernel'], { level: 2 }));
    assert.equal(lookup(catalog), '{"properties":{"good":[true],"level":[1,2]},"type":"urn:tpmux:property-set:v1"}');
    await catalog.remove(id);
    assert.equal(lookup(catalog), PropertySet.of({ good: true, level: 1 }).canonical);
  });

  it('of others than trusted issuers are refused, each with its reason', async () => {
    const stranger = newKey();
    const other = newKey('p256');
    const catalog = await open({ trust: trustIn({ allowed: ['good', 'os.*'] }, { issuer: 'other', key: other, allowed: ['other'] }) });
    const cases: readonly (readonly [string, PropertyErrorCode])[] = [
      [statement(['kernel'], { good: true }, {}, stranger), 'untrusted_key'],
      [statement(['kernel'], { good: true }, { issuer: 'nobody' }), 'issuer_mismatch'],
      [statement(['kernel'], { good: true }, { issuer: 'nobody' }, stranger), 'untrusted_key'],
      [statement(['kernel'], { good: true }, { issuer: 'other' }), 'issuer_mismatch'],
      [statement(['kernel'], { other: true }), 'property_not_allowed'],
      [statement(['kernel'], { good: true, other: true }), 'property_not_allowed'],
      [statement(['kernel'], { good: true }, { notBefore: new Date(0), notAfter: new Date(1_000_000) }), 'expired'],
    ];
    for (const [envelope, code] of cases) await assert.rejects(catalog.add(envelope), refused(code), code);
    const changed = JSON.parse(statement(['kernel'], { good: true })) as { payload: string };
    changed.payload = Buffer.from(
      Buffer.from(changed.payload, 'base64').toString().replace('"good":true', '"good":null'.replace('null', '1234')),
    ).toString('base64');
    await assert.rejects(catalog.add(JSON.stringify(changed)), refused('bad_signature'));
    assert.equal(catalog.size, 0);
    await catalog.add(statement(['kernel'], { good: true, 'os.level': 3 }));
    assert.equal(catalog.size, 1);
  });

  it('count in their time only, as of the moment of the snapshot', async () => {
    let now = Date.parse('2026-01-01T00:00:00Z');
    const catalog = await open({ now: () => now });
    const validity = { notBefore: new Date('2026-02-01T00:00:00Z'), notAfter: new Date('2026-03-01T00:00:00Z') };
    await catalog.add(statement(['kernel'], { good: true }, validity));
    assert.equal(lookup(catalog), undefined);
    assert.equal(catalog.snapshot().explain(TPM_ALG.SHA256, kernel)[0]?.verdict?.code, 'not_yet_valid');
    now = validity.notBefore.getTime();
    const during = catalog.snapshot();
    assert.equal(lookup(catalog), good);
    now = validity.notAfter.getTime();
    assert.equal(lookup(catalog), undefined);
    assert.equal(catalog.snapshot().explain(TPM_ALG.SHA256, kernel)[0]?.verdict?.code, 'expired');
    assert.ok(during.lookup(TPM_ALG.SHA256, kernel), 'a snapshot stays as it is');
  });

  const revoke = (number: number, revoked: readonly Revocation[], by = key, issuer = ISSUER): string =>
    issueRevocations({ issuer, number, issued: '2026-01-01T00:00:00Z', revoked }, by);

  it('can be revoked by their issuer, by identifier or by digest', async () => {
    const catalog = await open();
    const { id } = await catalog.add(statement(['kernel'], { good: true }));
    const earlier = catalog.snapshot();
    await assert.rejects(catalog.revoke(revoke(1, [{ statement: id, reason: '' }], newKey())), refused('untrusted_key'));
    await catalog.revoke(revoke(1, [{ statement: id, reason: 'CVE-1' }]));
    assert.equal(lookup(catalog), undefined);
    assert.ok(earlier.lookup(TPM_ALG.SHA256, kernel), 'a snapshot stays as it is');
    const { code, why } = catalog.snapshot().explain(TPM_ALG.SHA256, kernel)[0]?.verdict ?? assert.fail();
    assert.deepEqual([code, why], ['revoked', 'its issuer revoked it: CVE-1']);
    assert.equal(lookup(await open()), undefined);
    await catalog.revoke(revoke(2, [{ digest: { sha256: kernel.toString('hex') }, reason: '' }]));
    assert.equal(lookup(catalog), undefined);
    assert.ok(catalog.snapshot().lookup(TPM_ALG.SHA1, digestOf(TPM_ALG.SHA1, 'kernel')));
    await assert.rejects(catalog.revoke(revoke(1, [])), refused('outdated'));
    await assert.rejects(catalog.revoke(revoke(2, [])), refused('outdated'));
    await catalog.revoke(revoke(3, []));
    assert.equal(lookup(catalog), good);
  });

  it('do not count while the newest revocation list of their issuer is missing', async () => {
    const known = new Map<string, number>();
    const anchor: RevocationAnchor = {
      load: () => known,
      save: (numbers) => {
        for (const [issuer, number] of numbers) known.set(issuer, number);
        return Promise.resolve();
      },
    };
    const catalog = await open({ anchor });
    const { id } = await catalog.add(statement(['kernel'], { good: true }));
    await catalog.add(statement(['kernel 2'], { good: true }));
    const list = revoke(4, [{ statement: id, reason: '' }]);
    await catalog.revoke(list);
    rmSync(join(directory(), 'revocations'), { recursive: true });
    const again = await open({ anchor });
    const about = again.snapshot().explain(TPM_ALG.SHA256, digestOf(TPM_ALG.SHA256, 'kernel 2'));
    assert.equal(about[0]?.verdict?.code, 'revocations_missing');
    await assert.rejects(again.revoke(revoke(3, [])), refused('outdated'));
    await again.revoke(list);
    assert.ok(again.snapshot().lookup(TPM_ALG.SHA256, digestOf(TPM_ALG.SHA256, 'kernel 2')));
    assert.equal(lookup(again), undefined);
  });

  it('whose files were damaged or whose issuer lost trust do not count, and do not stop the others', async () => {
    const catalog = await open();
    const { id } = await catalog.add(statement(['kernel'], { good: true }));
    await catalog.add(statement(['kernel 2'], { good: true }));
    const part = join(directory(), 'statements', id.slice(0, 2));
    const file = join(part, readdirSync(part).find((name) => name.startsWith(id)) ?? '');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.slice(0, 100));
    const damaged = await open();
    assert.equal(damaged.size, 1);
    assert.match(damaged.problems[0] ?? '', /not JSON/);
    writeFileSync(file, text);
    const distrusting = await open({ trust: trustIn({ allowed: ['bad'] }) });
    assert.equal(distrusting.size, 2);
    assert.equal(lookup(distrusting), undefined);
    assert.equal(distrusting.snapshot().explain(TPM_ALG.SHA256, kernel)[0]?.verdict?.code, 'property_not_allowed');
  });

  it('are checked when they first matter: a file that changed since the start does not count', async () => {
    const catalog = await open();
    const text = statement(['kernel'], { good: true });
    const { id } = await catalog.add(text);
    const file = join(directory(), 'statements', id.slice(0, 2), `${id}.json`);
    const forged = JSON.parse(text) as { signatures: { sig: string }[] };
    forged.signatures = [{ sig: Buffer.alloc(64, 1).toString('base64') }];
    for (const [now, code] of [
      [JSON.stringify(forged), 'untrusted_key'],
      [statement(['other'], { good: true }), 'malformed'],
      ['', 'malformed'],
    ] as const) {
      writeFileSync(file, text);
      const again = await open();
      writeFileSync(file, now);
      assert.equal(lookup(again), undefined);
      assert.equal((await again.list())[0]?.verdict?.code, code);
    }
    writeFileSync(file, text);
    const again = await open();
    assert.ok(lookup(again) !== undefined);
    // What was checked needs its file no more.
    rmSync(file);
    assert.ok(lookup(again) !== undefined);
    assert.equal((await again.list())[0]?.verdict, undefined);
  });

  it('are bounded in number', async () => {
    const catalog = await open({ maxDigests: 8 });
    await catalog.add(statement(['a', 'b'], { good: true }));
    await assert.rejects(catalog.add(statement(['c'], { good: true })), refused('too_many'));
  });
});
