// The control API keeps to its contract, whoever asks.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import * as v from 'valibot';
import { ApiClient } from '../../src/api/client.js';
import { API, type EndpointName } from '../../src/api/endpoints.js';
import type { EndpointSpec } from '../../src/api/endpoint.js';
import { statusOf } from '../../src/api/errors.js';
import { EXIT, Failure } from '../../src/failure.js';
import { RunningDaemon } from '../support/running-daemon.js';

const MARKER = 'c2VjcmV0IGtleQ';

describe('the contract of the control API', function () {
  this.timeout(60_000);
  let daemon: RunningDaemon;
  let api: ApiClient;

  before(async () => {
    daemon = await RunningDaemon.create();
    await daemon.start();
    api = new ApiClient(daemon.config.runDir);
    await api.ask('createGuest', { body: { name: 'web1' } });
  });
  after(() => daemon.dispose());

  it('holds for all that is asked of a guest in its life', async () => {
    const params = { name: 'web2' };
    const made = await api.ask('createGuest', { body: { name: 'web2', start: false } });
    assert.equal(made.state, 'off');
    assert.equal((await api.ask('startGuest', { params })).state, 'running');
    assert.equal((await api.ask('resetGuest', { params })).state, 'running');
    assert.deepEqual(Object.keys((await api.ask('readPcrs', { params, query: { bank: 'sha256' } })).banks), ['sha256']);
    assert.equal((await api.ask('readPcrLog', { params })).guest, 'web2');
    assert.ok((await api.ask('readCounters', { params })).commands.length >= 0);
    assert.equal((await api.ask('showPolicy', { params })).guest, 'web2');
    assert.deepEqual((await api.ask('setPolicy', { params, body: { policy: null } })).changes, []);
    assert.equal((await api.ask('exportGuest', { params })).recovery, false);
    assert.equal((await api.ask('readEvidence', { params })).withheld, 0);
    const log = await api.ask('readLog', { params });
    assert.ok('log' in log);
    assert.equal((await api.ask('stopGuest', { params })).state, 'off');
    assert.equal((await api.ask('repairGuest', { params, body: { apply: false } })).complete, true);
    assert.equal((await api.ask('removeGuest', { params })).removed, 'web2');
    assert.deepEqual(
      (await api.ask('listGuests', {})).guests.map(({ name }) => name),
      ['web1'],
    );
  });

  it('holds for the host', async () => {
    assert.equal((await api.ask('status', {})).guests.total, 1);
    assert.ok((await api.ask('doctor', {})).checks.length > 5);
    assert.deepEqual((await api.ask('reseal', {})).failed, []);
    assert.match((await api.ask('policyDigest', { body: { bank: 'sha256', pcrs: [16] } })).policy, /^[0-9a-f]{64}$/);
    assert.deepEqual((await api.ask('audit', { query: { guest: 'nobody' } })).entries, []);
    assert.deepEqual((await api.ask('reloadPolicies', {})).problems, []);
    assert.deepEqual((await api.ask('listStatements', {})).statements, []);
    assert.deepEqual(await api.ask('showRevocations', { params: { issuer: 'a/b?c' } }), { list: null, envelope: null });
    assert.equal((await api.ask('explainDigest', { query: { digest: `sha256:${'0'.repeat(64)}` } })).known, false);
  });

  it('tells errors with their status and exit code', async () => {
    for (const [path, method, code, exit] of [
      ['/v1/guests/nobody', 'GET', 'guest_not_found', EXIT.failed],
      ['/v1/nothing', 'GET', 'no_such_path', EXIT.usage],
      ['/v1/status', 'DELETE', 'no_such_method', EXIT.usage],
      ['/v1/guests/web1/pcrs?bank=md5', 'GET', 'no_bank', EXIT.usage],
      ['/v1/guests/web1/pcrs?banc=sha256', 'GET', 'bad_request', EXIT.usage],
      ['/v1/guests/%ff', 'GET', 'bad_request', EXIT.usage],
    ] as const) {
      const { status, body } = await daemon.ask(method, path);
      assert.deepEqual([body.error.code, body.error.exit, status], [code, exit, statusOf({ code, exit })], path);
    }
    await assert.rejects(api.ask('showGuest', { params: { name: 'nobody' } }), (error) => {
      assert.ok(error instanceof Failure);
      assert.deepEqual([error.code, error.exit], ['guest_not_found', EXIT.failed]);
      return true;
    });
  });

  it('refuses bodies that are not what an endpoint takes, by the place, and never repeats what is in them', async () => {
    const names = (Object.keys(API) as EndpointName[]).filter((name) => (API[name] as EndpointSpec).body !== undefined);
    const secret = fc.oneof(
      fc.constant(MARKER),
      fc.constant([MARKER]),
      fc.constant({ name: MARKER, envelope: [MARKER], policy: { x: MARKER }, apply: MARKER, backup: 1, recovered: MARKER }),
      fc.constantFrom('name', 'policy', 'serial', 'tcp', 'bank', 'pcrs', 'recovered').map((key) => ({ [key]: { [key]: MARKER } })),
      fc.dictionary(fc.constantFrom(`-----BEGIN ${MARKER}`, 'name', 'x'), fc.constant(MARKER), { minKeys: 1 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), secret, async (name, body) => {
        const { method, path, body: schema }: EndpointSpec = API[name];
        fc.pre(schema !== undefined && !v.is(schema, body));
        const { status, text } = await daemon.ask(method, path.replace('{name}', 'web1'), body);
        assert.equal(status, 400, text);
        assert.ok(!text.includes(MARKER), text);
      }),
      { numRuns: 200 },
    );
  });
});
