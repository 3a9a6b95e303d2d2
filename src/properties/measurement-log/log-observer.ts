// What keeps a guest's measurement log: it watches the matrix.
import type { MatrixEvent, MatrixObserver, MatrixView } from '../providers/provider.js';
import { DEFAULT_LOG_SIZE, MeasurementLog } from './measurement-log.js';

/** Name of the provider that keeps the log, in policies; its vector is that of `digest`. */
export const LOG_PROVIDER = 'log';

/** Writes down what every provider made of each measurement. */
export class LogObserver implements MatrixObserver {
  readonly name = LOG_PROVIDER;
  /** The log as it is now. */
  log: MeasurementLog;
  private saved: MeasurementLog | undefined;

  /** @param limit bytes that the log takes at most */
  constructor(private readonly limit: number = DEFAULT_LOG_SIZE) {
    this.log = new MeasurementLog(limit);
  }

  /**
   * The log goes on from `state` (what {@link MeasurementLog.save} gave) once the matrix has been restored. Throws an Error if it is not that.
   */
  goOnFrom(state: Buffer): void {
    const saved = new MeasurementLog(this.limit);
    saved.restore(state);
    this.saved = saved;
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
        this.restored(event.wanted, matrix);
        break;
    }
  }

  /** A log of other providers or banks cannot go on: what was before is missing then. PCRs that were not restored were reset before. */
  private restored(wanted: (index: number) => boolean, matrix: MatrixView): void {
    const { saved } = this;
    this.saved = undefined;
    const goesOn = saved?.fits(matrix) === true;
    if (goesOn) this.log = saved;
    for (let index = 0; index < matrix.size; index++) if (goesOn !== wanted(index)) this.log.begin(index, matrix, !wanted(index));
  }
}
