import assert from 'node:assert/strict';
import { isRegression, parseReport, renderReport, type Row } from './report.js';

const versions = { tools: '5.4', swtpm: '0.7.1' };
const rows: [string, Row][] = [
  ['fapi/fapi-list', { tpmux: 'pass' }],
  ['create', { tpmux: 'fail', swtpm: 'pass' }],
  ['abrmd_policynv', { tpmux: 'partial', swtpm: 'skip' }],
];

describe('the page of conformance results', () => {
  it('is read back as it was written', () => {
    const text = renderReport({ versions, results: new Map(rows), notes: 'Two lines,\nby hand.' });
    const read = parseReport(text);
    assert.ok(read);
    assert.deepEqual(read.versions, versions);
    assert.equal(read.notes, 'Two lines,\nby hand.');
    assert.deepEqual(new Map(read.results), new Map(rows));
    assert.equal(renderReport(read), text);
  });

  it('has the scripts in order, those for FAPI last, and totals', () => {
    const text = renderReport({ versions, results: new Map(rows), notes: '' });
    assert.ok(
      text.endsWith(
        '| abrmd_policynv | pass, parts skipped | skipped |\n| create | **FAIL** | pass |\n| fapi/fapi-list | pass | not run |\n',
      ),
    );
    assert.match(text, /^\| fail \| 1 \| 0 \|$/m);
    assert.match(text, /^Scripts that pass on plain swtpm and not on tpmux: 1\.$/m);
  });

  it('is not anything else', () => {
    assert.equal(parseReport(''), undefined);
    assert.equal(parseReport('# Conformance\n\nlater'), undefined);
  });

  it('counts what plain swtpm passes and tpmux does not, or only in part', () => {
    for (const tpmux of ['fail', 'skip', 'partial'] as const) assert.equal(isRegression({ tpmux, swtpm: 'pass' }), true, tpmux);
    for (const swtpm of ['fail', 'skip', 'partial', 'pass'] as const) assert.equal(isRegression({ tpmux: 'pass', swtpm }), false, swtpm);
    assert.equal(isRegression({ tpmux: 'fail', swtpm: 'fail' }), false);
    assert.equal(isRegression({ tpmux: 'fail' }), true);
  });
});
