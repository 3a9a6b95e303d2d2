// The compiled program, for tests in which it matters how fast it starts: dist/ as `npm run build:ts` makes it, brought up to date.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Program and first arguments of `tpmux`, compiled from the sources as they are. */
export function compiledTpmux(): readonly string[] {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) => readFileSync(path, 'utf8')) as {
    config: { compilerOptions: object };
  };
  const { options: compilerOptions } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  for (const name of readdirSync(join(ROOT, 'src'), { recursive: true }) as string[]) {
    if (name.endsWith('.ts')) compile(name, compilerOptions);
  }
  return [process.execPath, join(ROOT, 'dist/cli/main.js')];
}

function compile(name: string, compilerOptions: ts.CompilerOptions): void {
  const source = join(ROOT, 'src', name);
  const target = join(ROOT, 'dist', name.replace(/\.ts$/, '.js'));
  if (existsSync(target) && statSync(target).mtimeMs > statSync(source).mtimeMs) return;
  const options = { ...compilerOptions, sourceMap: false, module: ts.ModuleKind.ESNext };
  const { outputText } = ts.transpileModule(readFileSync(source, 'utf8'), { fileName: source, compilerOptions: options });
  mkdirSync(dirname(target), { recursive: true });
  // Others may be running it.
  writeFileSync(`${target}.${process.pid.toString()}`, outputText);
  renameSync(`${target}.${process.pid.toString()}`, target);
}
