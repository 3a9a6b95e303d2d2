// TPM 2.0 Library Part 3, 22.9 to 22.11 and Part 1, 34.3: the event sequence of a dynamic root of trust, or of the H-CRTM before startup.
import { DRTM_PCR, HCRTM_PCR } from '../../tpm/constants/index.js';
import { sizedOrNull, struct, uint8 } from '../../tpm/schema.js';
import { Sequence } from '../sequences/sequence.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { PcrLog } from './pcr/pcr-log.js';
import type { Clock } from './clock.js';
import type { Pcrs } from './pcr/pcrs.js';
import type { PowerState } from './power.js';
import { fromStoredSequence, storedSequence, toStoredSequence } from './stored/stored-sequence.js';

/** Locality of these indications. */
export const DRTM_LOCALITY = 4;
const none = Buffer.alloc(0);

const launch = section('drtm', struct({ preStartup: uint8, sequence: sizedOrNull(storedSequence) }));

/** What a sequence changes. */
export interface DrtmSurroundings {
  readonly power: PowerState;
  readonly pcrs: Pcrs;
  readonly clock: Clock;
  readonly pcrLog: PcrLog;
}

/** The D-RTM sequence of one vTPM. It takes no object slot; every TPM command ends it. */
export class Drtm implements StateModule {
  /** An H-CRTM was measured in this power cycle, before TPM2_Startup. */
  preStartup = false;
  private sequence: Sequence | undefined;

  /** `_TPM_Hash_Start` */
  async start(pcrs: Pcrs): Promise<void> {
    this.abort();
    this.sequence = await Sequence.start('event', pcrs.implementedBanks, none);
  }

  /** `_TPM_Hash_Data` */
  update(data: Buffer): void {
    this.sequence?.update(data);
  }

  /** `_TPM_Hash_End`. A launch is counted like a restart. */
  async end({ power, pcrs, clock, pcrLog }: DrtmSurroundings): Promise<void> {
    const { sequence } = this;
    if (sequence === undefined) return;
    const digests = sequence.complete();
    this.abort();
    if (power.started) {
      pcrs.resetDynamic();
      clock.restartCount = (clock.restartCount + 1) >>> 0;
    } else {
      pcrs.matrix.setLocality(HCRTM_PCR, DRTM_LOCALITY);
      this.preStartup = true;
    }
    const pcr = power.started ? DRTM_PCR : HCRTM_PCR;
    const measured = digests.map(({ alg: bank, digest }) => ({ bank, digest }));
    await pcrs.extend({ index: pcr, locality: DRTM_LOCALITY, digests: measured });
    power.established = true;
    pcrLog.add({ kind: 'launch', command: '_TPM_Hash_End', locality: DRTM_LOCALITY, pcr, digests });
  }

  /** A command comes, or another sequence begins: what was hashed is dropped. */
  abort(): void {
    this.sequence?.dispose();
    this.sequence = undefined;
  }

  writeSections(writer: SectionWriter): void {
    const { preStartup, sequence } = this;
    writer.one(
      launch,
      () => ({ preStartup: Number(preStartup), sequence: sequence === undefined ? null : toStoredSequence(sequence.save()) }),
      [preStartup, sequence, sequence?.revision],
    );
  }

  async readSections(reader: SectionReader): Promise<void> {
    const { preStartup, sequence } = reader.one(launch);
    this.preStartup = preStartup !== 0;
    this.sequence = sequence === null ? undefined : await Sequence.restore(fromStoredSequence(sequence));
  }
}
