// What is done with one vTPM, one after the other; commands can be given up.
import { SerialQueue } from '../serial-queue.js';
import { Cancellation } from '../tpm/canceled.js';
import { errorResponse, frameCode } from '../tpm/frame.js';
import { TPM_RC } from '../tpm/response-code.js';

/** A command that was not answered yet. */
interface Pending {
  /** Answers it `TPM_RC_CANCELED`; undefined once it executes. */
  cancel: (() => void) | undefined;
}

/** Commands and other operations of one vTPM. */
export class CommandQueue {
  private readonly queue = new SerialQueue();
  private readonly pending = new Set<Pending>();
  /** Of the command that runs. */
  private running: Cancellation | undefined;

  /** Runs something that is no command when its turn comes. */
  run<T>(operation: () => Promise<T>): Promise<T> {
    return this.queue.run(operation);
  }

  /**
   * Executes a command when its turn comes and gives its response: `TPM_RC_CANCELED` if it was given up before, or while it ran before it
   * had an effect. `execute` is told of that.
   */
  command(execute: (cancellation: Cancellation) => Promise<Buffer>): Promise<Buffer> {
    const pending: Pending = { cancel: undefined };
    const canceled = new Promise<Buffer>((resolve) => {
      pending.cancel = (): void => {
        this.pending.delete(pending);
        resolve(errorResponse(TPM_RC.CANCELED));
      };
    });
    this.pending.add(pending);
    const executed = this.queue.run(async () => {
      // Canceled while it waited: it must have no effect.
      if (!this.pending.delete(pending)) return canceled;
      pending.cancel = undefined;
      return this.execute(execute);
    });
    return Promise.race([executed, canceled]);
  }

  /** Gives up the command that runs, and all that wait. */
  cancel(): void {
    for (const { cancel } of [...this.pending]) cancel?.();
    this.running?.cancel();
  }

  private async execute(execute: (cancellation: Cancellation) => Promise<Buffer>): Promise<Buffer> {
    const running = (this.running = new Cancellation());
    try {
      const response = await execute(running);
      const failed = frameCode(response) !== TPM_RC.SUCCESS;
      return running.isCanceled && failed ? errorResponse(TPM_RC.CANCELED) : response;
    } finally {
      this.running = undefined;
    }
  }
}
