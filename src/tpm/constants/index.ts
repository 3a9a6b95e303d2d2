// TPM 2.0 Library Part 2: constants.
export * from './algorithms.js';
export * from './attributes.js';
export * from './capabilities.js';
export * from './command-codes.js';
export * from './handles.js';
export * from './limits.js';
export * from './operations.js';
export * from './structure-tags.js';
