// TPM 2.0 Library Part 2: structures.
export * from './algorithms.js';
export * from './asymmetric.js';
export * from './attestation.js';
export * from './capabilities.js';
export * from './constants.js';
export * from './context.js';
export * from './digests.js';
export * from './handles.js';
export * from './nv.js';
export * from './objects.js';
export * from './schemes.js';
export * from './sessions.js';
export * from './symmetric.js';
export * from './tickets.js';
export * from './vendor.js';
