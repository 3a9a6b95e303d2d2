import importX, { createNodeResolver } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

// Imports point one way. A folder may import itself and what is listed; src/tpm imports nothing of the others.
const layers = {
  tpm: [],
  crypto: ['tpm'],
  native: [],
  store: ['tpm', 'crypto'],
  hardware: ['tpm', 'crypto', 'native'],
  keys: ['tpm', 'crypto', 'hardware'],
  properties: ['tpm', 'crypto'],
  policy: ['tpm', 'crypto', 'properties'],
  attestation: ['tpm', 'crypto', 'properties'],
  'guest-client': ['tpm', 'native', 'hardware'],
  vtpm: ['tpm', 'crypto', 'properties', 'keys', 'policy', 'store', 'hardware'],
  transport: ['tpm', 'native', 'vtpm'],
  daemon: ['tpm', 'crypto', 'native', 'store', 'hardware', 'keys', 'properties', 'policy', 'attestation', 'vtpm', 'transport'],
  cli: ['tpm', 'native', 'hardware', 'properties', 'policy', 'attestation', 'guest-client', 'daemon'],
};

const zones = Object.entries(layers).map(([target, allowed]) => ({
  target: `./src/${target}`,
  from: './src',
  except: ['./failure.ts', './settings-file.ts', `./${target}`, ...allowed.map((name) => `./${name}`)],
  message: `src/${target} may import ${allowed.length === 0 ? 'nothing of the other folders' : allowed.join(', ')}`,
}));

export default tseslint.config(
  { ignores: ['dist', 'build', 'coverage', 'node_modules'] },
  ...tseslint.configs.strictTypeChecked,
  {
    plugins: { 'import-x': importX },
    settings: { 'import-x/resolver-next': [createNodeResolver({ extensionAlias: { '.js': ['.ts', '.js'] } })] },
    languageOptions: { parserOptions: { project: './test/tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      'import-x/no-restricted-paths': ['error', { zones }],
      '@typescript-eslint/switch-exhaustiveness-check': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: false }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-generated-empty-object-type': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      'max-lines': ['error', { max: 400 }],
      eqeqeq: 'error',
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/no-unused-expressions': 'off', '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  { files: ['*.js', 'scripts/**/*.js', 'test/**/*.mjs'], ...tseslint.configs.disableTypeChecked },
);
