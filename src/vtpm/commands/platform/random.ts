// TPM 2.0 Library Part 3, 16: random number generator.
import type { GetRandom, StirRandom } from '../../../tpm/commands/index.js';
import { MAX_DIGEST_SIZE } from '../../../tpm/constants/index.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** 16.1: as many bytes as asked for, but at most those of the largest digest. */
const getRandom: Handler<typeof GetRandom> = (tpm, { bytesRequested }) => ({
  randomBytes: tpm.random.randomBytes(Math.min(bytesRequested, MAX_DIGEST_SIZE)),
});

/** 16.2 */
const stirRandom: Handler<typeof StirRandom> = (tpm, { inData }) => {
  tpm.random.stir(inData);
};

export const randomHandlers = { GetRandom: getRandom, StirRandom: stirRandom } satisfies Partial<Handlers>;
