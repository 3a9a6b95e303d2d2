/** What the stored examples hold. Keep it: examples cannot be made again. */
export const EXAMPLE = {
  guest: {
    id: '66666666-6666-4666-8666-666666666666',
    name: 'example',
    created: '2026-01-02T03:04:05.678Z',
    policy: null,
    listen: {},
    autostart: false,
  },
  stateKey: Buffer.alloc(32, 0x66),
  nvIndex: 0x01500000,
  nvData: Buffer.from('stored by an earlier version'),
  ownerAuth: 'owner',
  persistent: 0x81000000,
} as const;
