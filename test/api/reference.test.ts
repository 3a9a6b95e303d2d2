// The documents about the control API are those of its endpoints.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { Validator } from '@seriousme/openapi-schema-validator';
import { API } from '../../src/api/endpoints.js';
import { apiReference, openApi } from '../../scripts/api-reference.js';

const docs = new URL('../../docs/', import.meta.url);

describe('documents about the control API', () => {
  it('are as the endpoints are (npm run docs:api)', async () => {
    assert.equal(await readFile(new URL('api.md', docs), 'utf8'), apiReference());
    assert.deepEqual(JSON.parse(await readFile(new URL('openapi.json', docs), 'utf8')), JSON.parse(JSON.stringify(openApi())));
  });

  it('are an OpenAPI document with every endpoint', async () => {
    const document = JSON.parse(JSON.stringify(openApi())) as { paths: Record<string, Record<string, { operationId: string }>> };
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    assert.ok(valid, JSON.stringify(errors));
    const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
    assert.deepEqual(operations.sort(), Object.keys(API).sort());
  });
});
