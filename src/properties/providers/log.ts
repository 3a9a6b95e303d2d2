// The built-in provider `log`: an ordinary TPM that keeps a measurement log with what every provider made of each measurement.
import { DEFAULT_LOG_SIZE, MeasurementLog } from '../measurement-log/measurement-log.js';
import type { MatrixEvent, MatrixView, Measurement, PropertyProvider } from './provider.js';

/** Its vector is that of `digest`; what it does is to watch. */
export class LogProvider implements PropertyProvider {
  readonly log: MeasurementLog;

  /** @param state what {@link save} gave; an Error is thrown if it is not that */
  constructor(limit: number = DEFAULT_LOG_SIZE, state?: Uint8Array) {
    this.log = new MeasurementLog(limit);
    if (state !== undefined) this.log.restore(Buffer.from(state));
  }

  extend({ digests }: Measurement): Buffer[] {
    return digests.map(({ digest }) => digest);
  }

  save(): Buffer {
    return this.log.save();
  }

  observe(event: MatrixEvent, matrix: MatrixView): void {
    const { log } = this;
    switch (event.kind) {
      case 'extend':
        log.extend(event.measurement, event.translated, matrix);
        break;
      case 'start':
        log.start(event.index, event.digests, matrix);
        break;
      case 'reset':
        log.begin(event.index, matrix, true);
        break;
      case 'allocated':
        log.clear(matrix);
        break;
      case 'restored':
        for (let index = 0; index < matrix.size; index++) if (event.wanted(index)) log.begin(index, matrix, false);
        break;
      case 'resumed':
        this.resume(event.wanted, matrix);
        break;
    }
  }

  /** A log of other providers or banks cannot go on: what was before is missing then. */
  private resume(wanted: (index: number) => boolean, matrix: MatrixView): void {
    const fits = this.log.fits(matrix);
    if (!fits) this.log.clear(matrix);
    for (let index = 0; index < matrix.size; index++) if (!fits || !wanted(index)) this.log.begin(index, matrix, !wanted(index));
  }
}
