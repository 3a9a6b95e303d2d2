// Statements that do not show what they are about: who has the openings knows, nobody else can find out.
import assert from 'node:assert/strict';
import { parseEnvelope } from '../../src/statements/dsse.js';
import { PropertyError } from '../../src/statements/property-error.js';
import { readStatement, withOpenings } from '../../src/statements/statement.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { catalogOf, digestOf, statement, subject, trustIn } from '../properties/fixture.js';

const texts = ['kernel a', 'kernel b'];
const read = (text: string): ReturnType<typeof readStatement> => readStatement(parseEnvelope(text));
const isMalformed = (error: unknown): boolean => error instanceof PropertyError && error.code === 'malformed';

describe('statements with hidden subjects', () => {
  const whole = statement(texts, { good: true }, { hidden: true });
  const bare = withOpenings(whole, () => false);

  it('show neither digests nor names without their openings, and stay the same statement', async () => {
    const payload = parseEnvelope(bare).payload.toString();
    for (const text of texts) {
      assert.ok(!payload.includes(text) && !payload.includes(digestOf(TPM_ALG.SHA256, text).toString('hex')));
    }
    assert.ok(!bare.includes('openings'));
    assert.deepEqual([read(bare).subjects, read(bare).hidesSubjects], [[], true]);
    assert.deepEqual(read(whole).subjects, texts.map(subject));
    assert.equal(read(bare).id, read(whole).id);
    await trustIn({}).checkStatement(parseEnvelope(bare), read(bare));
    assert.notEqual(read(statement(texts, { good: true }, { hidden: true })).id, read(whole).id, 'salts are random');
  });

  it('can be opened one by one', () => {
    const one = withOpenings(whole, ({ name }) => name === 'kernel b');
    assert.deepEqual(read(one).subjects, [subject('kernel b')]);
    assert.equal(
      withOpenings(one, () => true),
      one,
    );
  });

  it('count in a catalog for what they are about', async () => {
    const catalog = await catalogOf([whole]);
    const found = (text: string): unknown => catalog.snapshot().lookup(TPM_ALG.SHA384, digestOf(TPM_ALG.SHA384, text))?.properties;
    assert.deepEqual(found('kernel a'), [{ name: 'good', value: true }]);
    assert.equal(found('kernel c'), undefined);
    assert.equal(catalog.get(read(whole).id)?.envelope, whole);
  });

  it('are not opened by anything else', () => {
    const { openings, ...envelope } = JSON.parse(whole) as { openings: { salt: string; subject: object }[] };
    const [first] = openings;
    assert.ok(first !== undefined);
    const wrong = [
      [{ ...first, subject: subject('kernel c') }],
      [{ ...first, salt: '00'.repeat(32) }],
      [{ ...first, extra: 1 }],
      [{ salt: first.salt }],
      'text',
      { 0: first },
    ];
    for (const one of wrong) assert.throws(() => read(JSON.stringify({ ...envelope, openings: one })), isMalformed);
    const shown = JSON.parse(statement(texts, { good: true })) as object;
    assert.throws(() => read(JSON.stringify({ ...shown, openings: [first] })), isMalformed);
  });
});
