// TPM 2.0 Library Part 3, 22.4: the host's own PCRs, read from the chip.
import { GetCapability, PCR_Read } from '../../tpm/commands/index.js';
import { TPM_CAP } from '../../tpm/constants/index.js';
import { digestSize } from '../../tpm/hash.js';
import { pcrBitmap, selectedPcrs } from '../../tpm/pcr-bitmap.js';
import { TPM_RC } from '../../tpm/response-code.js';
import type { TPMS_PCR_SELECTION } from '../../tpm/structures/index.js';
import { ChipError } from '../chip/errors.js';
import type { CommandSender } from '../chip/sender.js';

const PCRS = 24;
const MAX_ROUNDS = 64;

/** Values by hash algorithm (`TPM_ALG_ID`), then by index from 0. */
export type HostPcrs = ReadonlyMap<number, readonly Buffer[]>;

/**
 * Reads all PCRs of all banks whose hash is served; about four commands per bank. It begins anew if a PCR changes meanwhile, so that
 * all values are of one moment. Part of a turn. Rejects with {@link ChipError} where the chip refuses, or if the PCRs do not stand still.
 */
export async function readHostPcrs(sender: CommandSender): Promise<HostPcrs> {
  const request = { capability: TPM_CAP.PCRS, property: 0, propertyCount: 1 };
  const { capabilityData } = await sender.execute(GetCapability, request);
  const selections = capabilityData.capability === TPM_CAP.PCRS ? capabilityData.data : [];
  const banks = selections.filter(({ hash, pcrSelect }) => digestSize(hash) > 0 && indicesOf(pcrSelect).length > 0).map(({ hash }) => hash);
  for (let attempt = 0; attempt < 3; attempt++) {
    const pcrs = await readBanks(sender, banks);
    if (pcrs !== undefined) return pcrs;
  }
  throw new ChipError(PCR_Read.name, TPM_RC.PCR_CHANGED);
}

/** Undefined if a PCR changed between two commands. */
async function readBanks(sender: CommandSender, banks: readonly TPMS_PCR_SELECTION['hash'][]): Promise<HostPcrs | undefined> {
  const pcrs = new Map<number, Buffer[]>();
  let counter: number | undefined;
  for (const hash of banks) {
    const values: Buffer[] = Array.from({ length: PCRS }, () => Buffer.alloc(digestSize(hash)));
    let missing = Array.from({ length: PCRS }, (_, index) => index);
    for (let round = 0; missing.length > 0 && round < MAX_ROUNDS; round++) {
      const pcrSelectionIn = [{ hash, pcrSelect: pcrBitmap(missing) }];
      const answer = await sender.execute(PCR_Read, { pcrSelectionIn });
      if (counter !== undefined && counter !== answer.pcrUpdateCounter) return undefined;
      counter = answer.pcrUpdateCounter;
      const given = answer.pcrSelectionOut.flatMap(({ pcrSelect }) => indicesOf(pcrSelect));
      if (given.length === 0) break;
      given.forEach((index, at) => {
        values[index] = Buffer.from(answer.pcrValues[at] ?? Buffer.alloc(digestSize(hash)));
      });
      missing = missing.filter((index) => !given.includes(index));
    }
    pcrs.set(hash, values);
  }
  return pcrs;
}

/** A chip may select more than there are. */
function indicesOf(bitmap: Buffer): number[] {
  return selectedPcrs(bitmap).filter((index) => index < PCRS);
}
