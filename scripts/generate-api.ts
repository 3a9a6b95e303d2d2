// Writes docs/api.md and docs/openapi.json from the endpoints of the control API.
import { writeFile } from 'node:fs/promises';
import { apiReference, openApi } from './api-reference.js';

const docs = new URL('../docs/', import.meta.url);
await writeFile(new URL('api.md', docs), apiReference());
await writeFile(new URL('openapi.json', docs), `${JSON.stringify(openApi(), undefined, 2)}\n`);
