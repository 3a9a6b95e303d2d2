// A provider that does, by PCR index, what providers must not do.
export default {
  apiVersion: 1,
  create() {
    return {
      extend({ index, digests }) {
        switch (index) {
          case 1:
            throw new Error('no luck today');
          case 2:
            for (;;);
          case 3:
            return new Promise(() => undefined);
          case 4:
            process.exit(1);
            break;
          case 5:
            return digests.slice(1);
          case 6:
            return digests.map(() => Buffer.alloc(3));
          case 7: {
            const all = [];
            for (;;) all.push(new Array(1_000_000).fill(Math.random()));
          }
          case 8:
            return digests.map(() => () => undefined);
        }
        return digests.map(({ digest }) => digest);
      },
    };
  },
};
