// The house (docs/architecture.md): a folder is a room, and imports, of types too, point down this list and never in a circle.
// Each storey may import itself and all storeys below; rooms that share a storey import each other only without a circle.
const storeys = [
  ['cli'],
  ['daemon'],
  ['fleet', 'migration'],
  ['guests'],
  ['host'],
  ['api'],
  ['transport'],
  ['vtpm'],
  ['attestation', 'guest-client'],
  ['keys', 'policy', 'verifier'],
  ['hardware'],
  ['properties'],
  ['statements'],
  ['store', 'crypto', 'native', 'config'],
  ['tpm'],
];
/** What every room may use: errors for users, the logger, the queue. */
const everywhere = '^src/[^/]+\\.ts$';
/** Modules of Node with which a program reaches files, other programs and the network. */
const outside = ['child_process', 'cluster', 'dgram', 'dns', 'fs', 'http', 'http2', 'https', 'net', 'tls', 'worker_threads'];

const rules = storeys.flatMap((rooms, i) => {
  const above = storeys.slice(0, i).flat();
  return rooms.map((room) => ({
    name: `${room}-points-down`,
    comment: `src/${room} may not import what lies above it`,
    severity: 'error',
    from: { path: `^src/${room}/` },
    to: { path: `^src/(${above.concat(['\0']).join('|')})/` },
  }));
});

module.exports = {
  forbidden: [
    {
      name: 'no-circle',
      comment: 'modules, types included, never import each other in a circle',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'foundation',
      comment: 'what every room may use imports no room',
      severity: 'error',
      from: { path: everywhere },
      to: { path: '^src/[^/]+/' },
    },
    {
      name: 'verifier-alone',
      comment: 'whoever appraises evidence needs no host, no guest and no chip',
      severity: 'error',
      from: { path: '^src/verifier/' },
      to: { path: '^src/', pathNot: '^src/((verifier|statements|crypto|tpm)/|config/(names|describe-issue)\\.ts$)' },
    },
    {
      name: 'verifier-offline',
      comment: 'appraising evidence reads no file and asks nobody, by whatever it imports',
      severity: 'error',
      from: { path: '^src/verifier/' },
      to: { path: `^(node:)?(${outside.join('|')})(/|$)`, reachable: true },
    },
    ...rules.filter(({ to }) => !to.path.includes('(\0)')),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    includeOnly: `^(src/|(node:)?(${outside.join('|')})(/|$))`,
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
