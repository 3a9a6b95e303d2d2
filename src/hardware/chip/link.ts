// The connection to a chip, which is made anew when it is lost: does what the state machine in recovery.ts says.
import { setTimeout as sleep } from 'node:timers/promises';
import { reasonOf } from '../../failure.js';
import { connectWithin, PROBE_ANSWER, timeoutFor, type ChipLog, type ChipTimeouts, type ChipTransport } from './connection.js';
import { ChipCleared, ChipError, ChipRestarted, ChipUnavailable } from './errors.js';
import { ChipHealer } from './healer.js';
import { ChipHealth, type ChipCondition } from './health.js';
import { OPENING, stepLink, type LinkAction, type LinkEvent, type LinkState } from './recovery.js';

const FIRST_DELAY = 10;
const LONGEST_DELAY = 250;

/** What the link needs of who uses it. */
export interface LinkParts {
  /** Makes a connection; called again when it was lost. */
  readonly connect: () => Promise<ChipTransport>;
  readonly log: ChipLog;
  readonly timeouts: ChipTimeouts;
  /** Starts the chip up if nobody has, empties it and makes sure that it is the right one, by {@link ChipLink.transceive}. */
  readonly startOver: () => Promise<void>;
  /** Handles and sessions of the chip are void. */
  readonly forget: () => void;
  /** Tries all that on a connection of its own, and gives that connection. */
  readonly probe: () => Promise<ChipTransport>;
  /** Told of each command that was sent, and how long it took, answered or not. */
  readonly sent: (command: string, milliseconds: number) => void;
  /** Told when the state of the chip is another one. */
  readonly onChange: (condition: ChipCondition) => void;
}

/** A connection to one chip. */
export class ChipLink {
  /** Whether the chip can be used. */
  readonly health: ChipHealth;
  /** When the chip answered last; `performance.now()`. */
  lastAnswer = performance.now();
  private state: LinkState = OPENING;
  private transport: ChipTransport | undefined;
  /** The connection of a probe that ended well. */
  private probed: ChipTransport | undefined;
  private readonly healer = new ChipHealer(() => this.probe());

  constructor(private readonly parts: LinkParts) {
    this.health = new ChipHealth(parts.log, parts.onChange);
  }

  /**
   * Connects for the first time, and has `setUp` make the chip usable; at the first trouble all is closed again. Rejects with
   * {@link ChipUnavailable}, and as `setUp` does.
   */
  async open(setUp: () => Promise<void>): Promise<void> {
    try {
      this.transport = await this.parts.connect().catch((error: unknown) => {
        throw new ChipUnavailable(`cannot connect to the TPM: ${reasonOf(error)}`, { cause: error });
      });
      await this.happen('connected');
      await setUp();
    } catch (error) {
      await this.close();
      throw error;
    }
    await this.happen('restored');
  }

  /** Instead of {@link open}: makes the chip usable as a recovery does, once, and gives up the connection to whoever called. Rejects as {@link recover} does; nothing is open then. */
  async prove(): Promise<ChipTransport> {
    try {
      await this.restore(0);
    } catch (error) {
      await this.happen('closing');
      throw error;
    }
    const { transport } = this;
    this.transport = undefined;
    if (transport === undefined) throw new ChipUnavailable('the connection to the TPM is closed');
    return transport;
  }

  /** Whether the chip is being made usable, so that who finds something wrong with it must not begin with that. */
  get recovering(): boolean {
    return this.state.phase === 'recovering';
  }

  /**
   * Sends a frame and gives the answer. Rejects with {@link ChipRestarted} where the connection was lost and is there again, and as
   * {@link recover} does.
   */
  async transceive(command: string, frame: Buffer): Promise<Buffer> {
    if (this.state.phase === 'closed') throw new ChipUnavailable('the connection to the TPM is closed');
    if (!this.health.isWell) {
      await this.healer.hurry();
      this.health.require();
      throw new ChipRestarted(command, false);
    }
    if (this.transport === undefined) return await this.recover(command, 'connection-lost', false);
    const start = performance.now();
    try {
      const response = await this.transport.transceive(frame, this.timeoutFor(frame));
      this.lastAnswer = performance.now();
      this.parts.sent(command, this.lastAnswer - start);
      return response;
    } catch (error) {
      this.parts.sent(command, performance.now() - start);
      this.parts.log.warn(`the connection to the TPM failed during ${command}: ${reasonOf(error)}`);
      return await this.recover(command, 'connection-lost', true);
    }
  }

  /**
   * Makes a chip that lost something usable again, then rejects with {@link ChipRestarted}; with why it cannot be used if that fails,
   * and looks after it in the background.
   */
  async recover(command: string, event: 'connection-lost' | 'handles-lost', maybeExecuted: boolean): Promise<never> {
    const nested = this.recovering;
    await this.happen(event);
    if (nested) throw new ChipUnavailable(`the TPM went away during ${command}`);
    try {
      await this.restore(this.parts.timeouts.reconnect);
      await this.happen('restored');
    } catch (error) {
      await this.happen('not-restored');
      return this.rejectAs(error);
    }
    throw new ChipRestarted(command, maybeExecuted);
  }

  /** The chip answers, but cannot be used, because of `error`: leaves it alone, looks after it in the background, and rejects with that. */
  async diagnosed(error: unknown): Promise<never> {
    await this.happen('diagnosed');
    return this.rejectAs(error);
  }

  /** Closes the connection for good; what is in the chip stays there. */
  async close(): Promise<void> {
    this.healer.stop();
    await this.happen('closing');
  }

  private rejectAs(error: unknown): never {
    if (this.state.phase !== 'closed') this.health.ill(error);
    this.health.require();
    throw error;
  }

  /** Connects if need be and starts over; again and again until `patience` milliseconds are over. */
  private async restore(patience: number): Promise<void> {
    const { connect, startOver } = this.parts;
    const deadline = performance.now() + patience;
    for (let delay = FIRST_DELAY; ; delay = Math.min(delay * 2, LONGEST_DELAY)) {
      try {
        if (this.transport === undefined) {
          this.transport = await connectWithin(connect, Math.max(deadline - performance.now(), PROBE_ANSWER));
          await this.happen('connected');
        }
        await startOver();
        return;
      } catch (error) {
        if (error instanceof ChipCleared || error instanceof ChipError) throw error;
        await this.happen('connection-lost');
        if (performance.now() + delay > deadline || !this.recovering) {
          throw new ChipUnavailable(`cannot connect to the TPM again: ${reasonOf(error)}`, { cause: error });
        }
      }
      await sleep(delay);
    }
  }

  private timeoutFor(frame: Buffer): number {
    const usual = timeoutFor(this.parts.timeouts, frame);
    return this.recovering ? Math.min(usual, PROBE_ANSWER) : usual;
  }

  /** Whether the chip can be used now. Never rejects. */
  private async probe(): Promise<boolean> {
    await this.happen('probe-due');
    try {
      this.probed = await this.parts.probe();
    } catch (error) {
      await this.happen('probe-ill');
      if (this.state.phase !== 'closed') this.health.ill(error);
      return false;
    }
    await this.happen('probe-well');
    if (this.state.phase === 'closed') return false;
    this.health.recovered();
    return true;
  }

  /** `restore` and `probe` are left to who has that event happen. */
  private async happen(event: LinkEvent): Promise<void> {
    const { state, actions } = stepLink(this.state, event);
    this.state = state;
    for (const action of actions) await this.act(action);
  }

  private async act(action: LinkAction): Promise<void> {
    switch (action) {
      case 'disconnect':
        await this.closeTransport(this.transport);
        break;
      case 'forget':
        this.parts.forget();
        break;
      case 'await-probe':
        this.healer.start();
        break;
      case 'adopt-probe':
        this.transport = this.probed;
        this.probed = undefined;
        break;
      case 'drop-probe':
        await this.closeTransport(this.probed);
        this.probed = undefined;
        break;
      case 'restore':
      case 'probe':
        break;
    }
  }

  private async closeTransport(transport: ChipTransport | undefined): Promise<void> {
    if (transport === this.transport) this.transport = undefined;
    try {
      await transport?.close();
    } catch (error) {
      this.parts.log.warn(`closing the connection to the TPM failed: ${reasonOf(error)}`);
    }
  }
}
