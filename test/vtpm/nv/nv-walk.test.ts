// NV commands in random order, to a vTPM and a swtpm: every answer is the same, byte for byte, over power cycles.
import {
  DictionaryAttackLockReset,
  NV_DefineSpace,
  NV_Extend,
  NV_GlobalWriteLock,
  NV_Increment,
  NV_Read,
  NV_ReadLock,
  NV_ReadPublic,
  NV_SetBits,
  NV_UndefineSpace,
  NV_Write,
  NV_WriteLock,
  Shutdown,
  Startup,
} from '../../../src/tpm/commands/index.js';
import { definedBits, TPM_ALG, TPM_NT, TPM_RH, TPM_SU, TPMA_NV, TPMA_NV_NT_SHIFT } from '../../../src/tpm/constants/index.js';
import type { TPMS_AUTH_COMMAND } from '../../../src/tpm/structures/index.js';
import { startDifferential, type Differential } from '../../support/differential.js';
import { frame, password } from '../../support/frames.js';
import { Choices, runSeed } from '../../support/random-walk.js';

const STEPS = 2500;
const INDICES = 6;
const FIRST_INDEX = 0x01500000;
const auth = 'index auth';
const rare = definedBits(TPMA_NV) & ~TPMA_NV.TPM_NT;
const access =
  TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE | TPMA_NV.NO_DA;
const features =
  TPMA_NV.WRITEDEFINE |
  TPMA_NV.WRITE_STCLEAR |
  TPMA_NV.READ_STCLEAR |
  TPMA_NV.GLOBALLOCK |
  TPMA_NV.ORDERLY |
  TPMA_NV.CLEAR_STCLEAR |
  TPMA_NV.WRITEALL;

/** Not used between shutdown and power-off: swtpm forgets locks of orderly indices that are set there. */
const locks: readonly number[] = [NV_WriteLock.code, NV_ReadLock.code, NV_GlobalWriteLock.code];

class NvWalk {
  private readonly pair: Differential;
  private readonly choose: Choices;
  /** Indices that may be PINs: these are written in full, for what swtpm leaves in the rest is chance. */
  private readonly pins = new Set<number>();

  constructor(pair: Differential, seed: number) {
    this.pair = pair;
    this.choose = new Choices(seed);
  }

  async step(number: number): Promise<void> {
    const what = `step ${number.toString()}`;
    if (this.choose.once(60)) {
      await this.cycle(what);
      return;
    }
    const command = this.command();
    await this.pair.same(command, 0, `${what}: ${command.toString('hex')}`);
  }

  private async cycle(what: string): Promise<void> {
    const shutdownType = this.choose.of(undefined, TPM_SU.CLEAR, TPM_SU.STATE, TPM_SU.STATE);
    if (shutdownType !== undefined) await this.pair.same(frame(Shutdown, { shutdownType }), 0, `${what}: shutdown`);
    const late = this.command();
    if (this.choose.once(3) && !locks.includes(late.readUInt32BE(6))) await this.pair.same(late, 0, `${what}: after shutdown`);
    await this.pair.powerCycle();
    const startupType = this.choose.of(TPM_SU.CLEAR, TPM_SU.STATE);
    const code = await this.pair.sameCode(frame(Startup, { startupType }), 0, `${what}: startup`);
    if (code !== 0) await this.pair.same(frame(Startup, { startupType: TPM_SU.CLEAR }), 0, `${what}: startup again`);
    await this.pair.same(frame(DictionaryAttackLockReset, { lockHandle: TPM_RH.LOCKOUT }), 0, what);
  }

  private command(): Buffer {
    const { choose } = this;
    const nvIndex = FIRST_INDEX + choose.below(INDICES);
    const authHandle = choose.of<number>(nvIndex, nvIndex, TPM_RH.OWNER, TPM_RH.PLATFORM, FIRST_INDEX);
    const sessions = [password(authHandle >>> 24 === 1 && !choose.once(30) ? auth : '')];
    const handles = { authHandle, nvIndex };
    switch (choose.below(16)) {
      case 0:
      case 1:
        return this.define(nvIndex);
      case 2:
        return frame(NV_UndefineSpace, { authHandle: choose.of<number>(TPM_RH.OWNER, TPM_RH.PLATFORM), nvIndex });
      case 3:
        return frame(NV_ReadPublic, { nvIndex });
      case 4:
      case 5:
        return this.write(handles, sessions);
      case 6:
      case 7:
        return frame(NV_Increment, handles, sessions);
      case 8:
        return frame(NV_Extend, { ...handles, data: choose.bytes(choose.below(70)) }, sessions);
      case 9:
        return frame(NV_SetBits, { ...handles, bits: BigInt(1 << choose.below(20)) << BigInt(choose.below(40)) }, sessions);
      case 10:
        return choose.once(3) ? frame(NV_WriteLock, handles, sessions) : frame(NV_ReadPublic, { nvIndex });
      case 11:
        return choose.once(3) ? frame(NV_ReadLock, handles, sessions) : frame(NV_ReadPublic, { nvIndex });
      case 12:
        return choose.once(8)
          ? frame(NV_GlobalWriteLock, { authHandle: choose.of<number>(TPM_RH.OWNER, TPM_RH.PLATFORM) })
          : frame(NV_ReadPublic, { nvIndex });
      default:
        return frame(
          NV_Read,
          { ...handles, size: choose.of(0, 1, 4, 8, 20, 32, 33, 1025), offset: choose.of(0, 0, 0, 4, 8, 40) },
          sessions,
        );
    }
  }

  private write(handles: { authHandle: number; nvIndex: number }, sessions: TPMS_AUTH_COMMAND[]): Buffer {
    const { choose } = this;
    if (this.pins.has(handles.nvIndex)) return frame(NV_Write, { ...handles, data: this.pin(), offset: 0 }, sessions);
    return frame(
      NV_Write,
      { ...handles, data: choose.bytes(choose.of(0, 1, 4, 8, 8, 20, 32, 33)), offset: choose.of(0, 0, 0, 4, 8, 40) },
      sessions,
    );
  }

  /** pinCount and pinLimit. */
  private pin(): Buffer {
    return Buffer.of(0, 0, 0, this.choose.below(4), 0, 0, 0, this.choose.below(8));
  }

  private define(nvIndex: number): Buffer {
    const { choose } = this;
    const authHandle = choose.of<number>(TPM_RH.OWNER, TPM_RH.OWNER, TPM_RH.PLATFORM);
    const type = choose.of<number>(...Object.values(TPM_NT), TPM_NT.ORDINARY, TPM_NT.COUNTER, 3);
    const platform = (authHandle === TPM_RH.PLATFORM) === !choose.once(30) ? TPMA_NV.PLATFORMCREATE : 0;
    const pin = type === TPM_NT.PIN_FAIL || type === TPM_NT.PIN_PASS;
    if (pin) this.pins.add(nvIndex);
    const own =
      pin && !choose.once(10)
        ? TPMA_NV.NO_DA | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE
        : choose.bits(access, 2) | TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE;
    const odd = choose.once(8) ? choose.bits(rare, 12) : 0;
    const attributes = (own | choose.bits(pin ? TPMA_NV.ORDERLY : features, 4) | odd | platform | (type << TPMA_NV_NT_SHIFT)) >>> 0;
    const nameAlg = choose.of(TPM_ALG.SHA256, TPM_ALG.SHA1);
    const fitting =
      type === TPM_NT.ORDINARY ? choose.of(0, 8, 20, 32) : type === TPM_NT.EXTEND ? (nameAlg === TPM_ALG.SHA256 ? 32 : 20) : 8;
    const dataSize = choose.once(20) ? choose.of(0, 7, 9, 300, 2049) : fitting;
    const authPolicy = Buffer.alloc(choose.once(20) ? choose.of(5, 20, 32) : 0);
    const value = choose.once(20) ? choose.of('', 'a'.repeat(20), 'a'.repeat(21), 'a'.repeat(33), `a${'\0'.repeat(40)}`) : auth;
    return frame(NV_DefineSpace, {
      authHandle,
      auth: Buffer.from(value),
      publicInfo: { nvIndex, nameAlg, attributes, authPolicy, dataSize },
    });
  }
}

describe('NV commands in random order', () => {
  for (const seed of [1, 2, runSeed]) {
    it(`answers as swtpm does (walk ${seed.toString()})`, async () => {
      const pair = await startDifferential();
      try {
        const walk = new NvWalk(pair, seed);
        for (let i = 0; i < STEPS; i++) await walk.step(i);
      } finally {
        await pair.stop();
      }
    });
  }
});
