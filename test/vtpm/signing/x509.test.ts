// CertifyX509, side by side with swtpm; what it makes are certificates that OpenSSL verifies.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { bitString, DER_TAG, element, integer, nullElement, objectIdentifier, readElements, sequence } from '../../../src/crypto/der.js';
import { CertifyX509, CreatePrimary, FlushContext, LoadExternal, ReadPublic } from '../../../src/tpm/commands/index.js';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPMA_OBJECT } from '../../../src/tpm/constants/index.js';
import { atHandle, atParameter, describeResponseCode, TPM_RC } from '../../../src/tpm/response-code.js';
import type { TPMI_ECC_CURVE, TPMT_PUBLIC, TPMT_SIG_SCHEME_PLUS, TPMT_SIGNATURE_PLUS } from '../../../src/tpm/structures/index.js';
import { toBigInt } from '../../../src/crypto/big-integer.js';
import { generateEccKey } from '../../../src/crypto/ecc.js';
import { getCurve } from '../../../src/crypto/ecc-curves.js';
import { generateRsaKey } from '../../../src/crypto/rsa-key.js';
import { type Differential, startDifferential } from '../../support/differential.js';
import { codeOf, expectCode, frame, none, password } from '../../support/frames.js';
import { eccTemplate, hmacTemplate, rsaTemplate } from '../../support/templates.js';

const { SHA1, SHA256, SHA384, SHA512, RSASSA, RSAPSS, ECDSA, ECSCHNORR, NULL } = TPM_ALG;
const nullScheme = { scheme: NULL, details: null } as const;
const EXTENSIONS = DER_TAG.CONTEXT + 3;
const octets = (content: Buffer): Buffer => element(DER_TAG.OCTET_STRING, content);
const name = (text: string): Buffer => sequence(element(0x31, sequence(objectIdentifier('2.5.4.3'), element(0x0c, Buffer.from(text)))));
const issuer = name('issuer');
const subject = name('subject');
const validity = sequence(element(0x17, Buffer.from('260101000000Z')), element(0x17, Buffer.from('360101000000Z')));
/** A key usage extension with these bits, the first as the most significant of a byte. */
const usage = (bits: number, unused = 0): Buffer =>
  sequence(objectIdentifier('2.5.29.15'), element(1, Buffer.of(0xff)), octets(element(DER_TAG.BIT_STRING, Buffer.of(unused, bits))));
const attributesExtension = (attributes: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(attributes >>> 0);
  return sequence(objectIdentifier('2.23.133.10.1.1.1'), octets(bitString(bytes)));
};
const extensions = (...list: readonly Buffer[]): Buffer => element(EXTENSIONS, sequence(...list));
const SIGN_USAGE = usage(0x80, 7);
const partial = (...more: readonly Buffer[]): Buffer => sequence(issuer, validity, subject, ...more);
const ordinary = partial(extensions(SIGN_USAGE));

describe('CertifyX509', () => {
  let both: Differential;
  before(async () => {
    both = await startDifferential();
  });
  after(async () => {
    await both.stop();
  });
  afterEach(async () => {
    for (const execute of [both.ours.execute, both.theirs.execute]) {
      for (const flushHandle of [0x80000000, 0x80000001, 0x80000002]) await execute(frame(FlushContext, { flushHandle }));
    }
  });

  const free = TPMA_OBJECT.userWithAuth;
  async function load(inPublic: TPMT_PUBLIC, sensitive: Buffer): Promise<number> {
    const inPrivate = { sensitiveType: inPublic.type, authValue: none, seedValue: none, sensitive };
    const request = { inPrivate, inPublic, hierarchy: TPM_RH.NULL } as never;
    return (await both.runSame(LoadExternal, request, [])).objectHandle;
  }
  async function ecc(
    curveID: TPMI_ECC_CURVE = TPM_ECC_CURVE.NIST_P256,
    attributes: number = TPMA_OBJECT.sign | TPMA_OBJECT.decrypt,
  ): Promise<number> {
    const { d, point } = generateEccKey(getCurve(curveID));
    return load({ ...eccTemplate(curveID), objectAttributes: free | attributes, unique: point }, d);
  }
  async function rsa(attributes: number = TPMA_OBJECT.sign | TPMA_OBJECT.decrypt): Promise<number> {
    const { modulus, prime } = await generateRsaKey(2048, 0);
    return load({ ...rsaTemplate(), objectAttributes: free | attributes, unique: modulus }, prime);
  }

  const publicAreaOf = async (objectHandle: number): Promise<TPMT_PUBLIC> =>
    (await both.runSame(ReadPublic, { objectHandle }, [])).outPublic;

  /** The certificate that a caller puts together. */
  function certificate(given: Buffer, added: Buffer, signature: TPMT_SIGNATURE_PLUS): X509Certificate {
    const mine = readElements(readElements(given)?.[0]?.content ?? none)?.map(({ encoded }) => encoded) ?? [];
    const theirs = readElements(readElements(added)?.[0]?.content ?? none)?.map(({ encoded }) => encoded) ?? [];
    const [version, serial, third, fourth] = theirs as [Buffer, Buffer, Buffer, Buffer | undefined];
    const rest = [...mine];
    const algorithm = fourth === undefined ? (rest.shift() ?? none) : third;
    const publicKey = fourth ?? third;
    const [anIssuer = none, aValidity = none, aSubject = none, others = none] = rest;
    const tbs = sequence(version, serial, algorithm, anIssuer, aValidity, aSubject, publicKey, others);
    return new X509Certificate(sequence(tbs, algorithm, signatureBits(signature)));
  }
  function signatureBits(signature: TPMT_SIGNATURE_PLUS): Buffer {
    if (signature.sigAlg === RSASSA || signature.sigAlg === RSAPSS) return bitString(signature.signature.sig);
    if (signature.sigAlg !== ECDSA) assert.fail('another scheme');
    return bitString(sequence(integer(signature.signature.signatureR), integer(signature.signature.signatureS)));
  }

  async function certify(
    objectHandle: number,
    signHandle: number,
    inScheme: TPMT_SIG_SCHEME_PLUS,
    partialCertificate: Buffer,
  ): Promise<X509Certificate> {
    const { ours, theirs } = await both.run(CertifyX509, { objectHandle, signHandle, reserved: none, inScheme, partialCertificate });
    assert.equal(ours.addedToCertificate.toString('hex'), theirs.addedToCertificate.toString('hex'));
    assert.equal(ours.tbsDigest.toString('hex'), theirs.tbsDigest.toString('hex'));
    return certificate(partialCertificate, ours.addedToCertificate, ours.signature);
  }
  /** Both answer with the same code; but the reference code numbers the two handles the other way round than the specification. */
  async function refuse(
    objectHandle: number,
    signHandle: number,
    inScheme: TPMT_SIG_SCHEME_PLUS,
    partialCertificate: Buffer,
  ): Promise<number> {
    const { ours, theirs } = await both.both(
      frame(CertifyX509, { objectHandle, signHandle, reserved: none, inScheme, partialCertificate }),
    );
    const [code, other] = [codeOf(ours), codeOf(theirs)];
    const isAtHandle = (code & 0x8c0) === 0x080;
    assert.equal(describeResponseCode(isAtHandle ? code ^ 0x300 : code), describeResponseCode(other), partialCertificate.toString('hex'));
    return code;
  }

  it('certificates of keys by themselves, with every scheme and hash', async () => {
    const [ec, rs] = [await ecc(), await rsa()];
    for (const hashAlg of [SHA1, SHA256, SHA384, SHA512] as const) {
      for (const [key, scheme] of [
        [ec, ECDSA],
        [rs, RSASSA],
        [rs, RSAPSS],
      ] as const) {
        const made = await certify(key, key, { scheme, details: { hashAlg } }, ordinary);
        // OpenSSL refuses SHA-1 in certificates, and the PSS parameters that the reference code writes for it.
        if (hashAlg !== SHA1) assert.ok(made.verify(made.publicKey), `${scheme.toString(16)} ${hashAlg.toString(16)}`);
        assert.equal(made.subject, 'CN=subject');
        assert.ok(toBigInt(Buffer.from(made.serialNumber, 'hex')) > 0n && made.serialNumber.length <= 40);
      }
    }
  });

  it('no certificate in which an extension stands twice: readers differ in which one they believe', async () => {
    const key = await ecc();
    const { objectAttributes } = await publicAreaOf(key);
    const other = sequence(objectIdentifier('2.5.29.19'), octets(sequence()));
    for (const twice of [
      [SIGN_USAGE, usage(0x08, 3)],
      [SIGN_USAGE, SIGN_USAGE],
      [SIGN_USAGE, other, other],
      [attributesExtension(objectAttributes), attributesExtension(0), SIGN_USAGE],
    ]) {
      const partialCertificate = partial(extensions(...twice));
      const inScheme = { scheme: ECDSA, details: { hashAlg: SHA256 } } as const;
      const request = frame(CertifyX509, { objectHandle: key, signHandle: key, reserved: none, inScheme, partialCertificate });
      assert.equal(codeOf(await both.ours.execute(request)), atParameter(TPM_RC.VALUE, 3));
    }
  });

  it('keys of every curve, certified by another', async () => {
    for (const curveID of [1, 2, 3, 4, 5, 0x20] as const) {
      const [object, signer] = [await ecc(curveID), await rsa()];
      const made = await certify(object, signer, { scheme: RSASSA, details: { hashAlg: SHA256 } }, ordinary);
      assert.equal(made.issuer, 'CN=issuer');
      for (const execute of [both.ours.execute, both.theirs.execute])
        for (const flushHandle of [object, signer]) await execute(frame(FlushContext, { flushHandle }));
    }
    const [object, signer] = [await ecc(TPM_ECC_CURVE.BN_P256), await ecc()];
    assert.equal(await refuse(object, signer, { scheme: ECDSA, details: { hashAlg: SHA256 } }, ordinary), atHandle(TPM_RC.ASYMMETRIC, 1));
  });

  it('a signature algorithm that the caller gives', async () => {
    const key = await ecc();
    const algorithm = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
    const made = await certify(
      key,
      key,
      { scheme: ECDSA, details: { hashAlg: SHA256 } },
      sequence(algorithm, issuer, validity, subject, extensions(SIGN_USAGE)),
    );
    assert.ok(made.verify(made.publicKey));
    await refuse(
      key,
      key,
      { scheme: ECSCHNORR, details: { hashAlg: SHA256 } },
      sequence(algorithm, issuer, validity, subject, extensions(SIGN_USAGE)),
    );
  });

  it('key usage must be what the key may do', async () => {
    const scheme = { scheme: ECDSA, details: { hashAlg: SHA256 } } as const;
    const signer = await ecc();
    for (const attributes of [TPMA_OBJECT.sign, TPMA_OBJECT.decrypt, TPMA_OBJECT.sign | TPMA_OBJECT.decrypt]) {
      const object = await ecc(TPM_ECC_CURVE.NIST_P256, attributes);
      for (let bit = 0; bit < 8; bit++) await refuse(object, signer, scheme, partial(extensions(usage(0x80 >> bit))));
      const decipherOnly = sequence(objectIdentifier('2.5.29.15'), octets(element(DER_TAG.BIT_STRING, Buffer.of(7, 0, 0x80))));
      await refuse(object, signer, scheme, partial(extensions(decipherOnly)));
      await refuse(object, signer, scheme, partial(extensions(usage(0xff))));
      await refuse(object, signer, scheme, partial(extensions(usage(0))));
      for (const execute of [both.ours.execute, both.theirs.execute]) await execute(frame(FlushContext, { flushHandle: object }));
    }
  });

  it('TPMA_OBJECT in the certificate must be that of the key', async () => {
    const scheme = { scheme: ECDSA, details: { hashAlg: SHA256 } } as const;
    const key = await ecc();
    const attributes = free | TPMA_OBJECT.sign | TPMA_OBJECT.decrypt;
    await certify(key, key, scheme, partial(extensions(SIGN_USAGE, attributesExtension(attributes))));
    const wrong = partial(extensions(attributesExtension(attributes | TPMA_OBJECT.fixedTPM), SIGN_USAGE));
    assert.equal(await refuse(key, key, scheme, wrong), atHandle(TPM_RC.ATTRIBUTES, 1));
    assert.equal(await refuse(key, key, scheme, partial(extensions(attributesExtension(attributes)))), atParameter(TPM_RC.VALUE, 3));
    const noBits = sequence(objectIdentifier('2.23.133.10.1.1.1'), octets(nullElement));
    await refuse(key, key, scheme, partial(extensions(noBits, SIGN_USAGE)));
  });

  it('what is no partial certificate', async () => {
    const scheme = { scheme: ECDSA, details: { hashAlg: SHA256 } } as const;
    const key = await ecc();
    const good = extensions(SIGN_USAGE);
    for (const bytes of [
      none,
      Buffer.of(0x30),
      Buffer.of(0x30, 0),
      Buffer.of(0x30, 0x80, 0, 0),
      Buffer.of(0x30, 0x84, 0, 0, 0, 0),
      Buffer.of(0x31, 0),
      Buffer.of(0x3f, 0x81, 0),
      Buffer.concat([ordinary, none, Buffer.of(0)]),
      ordinary.subarray(0, -1),
      sequence(issuer, validity, good),
      sequence(issuer, validity, subject),
      sequence(good, issuer, validity, subject),
      sequence(issuer, validity, subject, good, good),
      sequence(issuer, validity, subject, element(DER_TAG.CONTEXT + 1, bitString(none)), good),
      sequence(issuer, validity, subject, nullElement, good),
      partial(element(EXTENSIONS, SIGN_USAGE)),
      partial(element(EXTENSIONS, sequence())),
      partial(element(EXTENSIONS)),
      partial(extensions(nullElement, SIGN_USAGE)),
      partial(extensions(sequence(objectIdentifier('2.5.29.15')))),
      partial(extensions(sequence(objectIdentifier('2.5.29.15'), octets(none)))),
      partial(extensions(sequence(objectIdentifier('2.5.29.15'), octets(element(DER_TAG.BIT_STRING))))),
      partial(extensions(sequence(objectIdentifier('2.5.29.15'), octets(element(DER_TAG.BIT_STRING, Buffer.of(8, 0x80)))))),
      partial(extensions(sequence(objectIdentifier('2.5.29.19'), octets(sequence())))),
      partial(extensions(sequence(objectIdentifier('2.5.29.19'), octets(sequence())), SIGN_USAGE)),
      partial(extensions(sequence(), SIGN_USAGE)),
    ]) {
      await refuse(key, key, scheme, bytes);
    }
  });

  it('keys, schemes and parameters that do not fit', async () => {
    const [ec, rs] = [await ecc(), await rsa(TPMA_OBJECT.decrypt)];
    const ecdsa = { scheme: ECDSA, details: { hashAlg: SHA256 } } as const;
    await refuse(ec, rs, { scheme: RSASSA, details: { hashAlg: SHA256 } }, ordinary);
    await refuse(rs, ec, ecdsa, ordinary);
    await refuse(ec, ec, nullScheme, ordinary);
    await refuse(ec, ec, { scheme: ECSCHNORR, details: { hashAlg: SHA256 } }, ordinary);
    await refuse(ec, ec, { scheme: RSASSA, details: { hashAlg: SHA256 } }, ordinary);
    await both.code(CertifyX509, {
      objectHandle: ec,
      signHandle: ec,
      reserved: Buffer.of(1),
      inScheme: ecdsa,
      partialCertificate: ordinary,
    });
    await both.code(CertifyX509, { objectHandle: ec, signHandle: ec, reserved: none, inScheme: ecdsa, partialCertificate: ordinary }, [
      password(),
    ]);
    await both.code(CertifyX509, { objectHandle: ec, signHandle: ec, reserved: none, inScheme: ecdsa, partialCertificate: ordinary }, [
      password('x'),
      password(),
    ]);
    const inSensitive = { userAuth: none, data: none };
    await both.run(CreatePrimary, {
      primaryHandle: TPM_RH.NULL,
      inSensitive,
      inPublic: hmacTemplate(),
      outsideInfo: none,
      creationPCR: [],
    });
    await refuse(0x80000002, ec, ecdsa, ordinary);
    await refuse(ec, 0x80000002, nullScheme, ordinary);
  });

  it('without a signer there is no certificate', async () => {
    const object = await ecc();
    const request = { objectHandle: object, signHandle: TPM_RH.NULL, reserved: none, inScheme: nullScheme, partialCertificate: ordinary };
    await expectCode(both.ours.execute, atHandle(TPM_RC.KEY, 2), CertifyX509, request);
  });
});
