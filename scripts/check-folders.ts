// Fails when a folder has become a heap: more source files than a reader keeps in mind (docs/architecture.md, "The house").
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const MAX_FILES = 20;
const ROOTS = ['src', 'native', 'test', 'scripts', 'docs'];
const SOURCE = /\.(ts|js|mjs|cjs|c|cc|h|md|py|sh)$|^[^.]+$/;

/** Every folder below `root`, itself too, with the number of source files that lie directly in it. */
function folders(root: string): { readonly path: string; readonly files: number }[] {
  const entries = readdirSync(root, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && SOURCE.test(entry.name)).length;
  const below = entries.filter((entry) => entry.isDirectory()).flatMap(({ name }) => folders(join(root, name)));
  return [{ path: root, files }, ...below];
}

const heaps = ROOTS.flatMap(folders).filter(({ files }) => files > MAX_FILES);
for (const { path, files } of heaps) {
  console.error(`${path}: ${files.toString()} files, at most ${MAX_FILES.toString()} (give it rooms of its own)`);
}
process.exitCode = heaps.length > 0 ? 1 : 0;
