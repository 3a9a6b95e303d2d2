import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist', 'build', 'coverage', 'node_modules'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { project: './test/tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: false }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-generated-empty-object-type': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      'max-lines': ['error', { max: 400 }],
      'max-lines-per-function': ['error', { max: 60 }],
      eqeqeq: 'error',
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      'max-lines-per-function': 'off',
      '@typescript-eslint/no-unused-expressions': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['test/**/*.test.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            "CallExpression[callee.object.name='assert'] BinaryExpression[operator=/^<=?$/] > BinaryExpression.left > CallExpression[callee.property.name='now']",
          message: 'A slow machine exceeds every limit: count, or look at the order of events (docs/contributing.md).',
        },
        {
          selector: 'WhileStatement > ExpressionStatement.body > AwaitExpression[argument.callee.name=/^(sleep|delay)$/]',
          message: 'Use waitFor (test/support/wait-for.ts), which says what does not happen.',
        },
      ],
    },
  },
  { files: ['*.js', 'scripts/**/*.js', 'test/**/*.mjs', '*.cjs'], ...tseslint.configs.disableTypeChecked },
);
