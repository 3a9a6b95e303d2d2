/**
 * A part of a TPM's state that can be taken out and put back: what is durable, what is lost with power, and (of a TPM 1.2 only) what
 * TPM_SaveState keeps.
 */
export type StatePart = 'permanent' | 'volatile' | 'savestate';

/**
 * What the platform of the simulator signals besides power: whether NV can be written and somebody is present; that Time begins anew; that
 * the next TPM2_SelfTest fails.
 */
export type PlatformSignal = 'nv on' | 'nv off' | 'presence on' | 'presence off' | 'restart timer' | 'fail self-test';

/** Why a blob cannot become a part of the state; the message is for the log. */
export class StateRefused extends Error {
  override readonly name = 'StateRefused';
}

/** What a transport needs of one guest's TPM. A vTPM never sees a socket; a transport never sees a key. */
export interface GuestTpm {
  /**
   * Executes one complete command frame and gives the complete response frame; commands are executed in the order of the calls.
   * Never rejects: what fails inside is answered `TPM_RC_FAILURE`.
   * @param command one frame, header included, at most `MAX_COMMAND_SIZE` bytes; the TPM keeps no view of it
   * @param locality 0 to 4
   * @param token what {@link answered} knows the command by; 0, the default, is none
   * @param onEffect called before anything of the command can outlive this process; a command for which it was not called had no effect
   */
  execute(command: Buffer, locality: number, token?: number, onEffect?: () => void): Promise<Buffer>;
  /**
   * The response to a command that this process, or one before it that was killed, executed with `token`; undefined if the command had no
   * effect, or many had one since. Power cycles do not matter.
   */
  answered(token: number): Buffer | undefined;
  /** `_TPM_Init`: power is applied or reset; the TPM waits for TPM2_Startup. Volatile state is lost. */
  powerOn(): Promise<void>;
  /**
   * As {@link powerOn}, but what {@link setState} and {@link storeVolatile} left is taken into use: with volatile state the TPM goes on
   * where it was, without TPM2_Startup. `deleteVolatile` is whether that was the last time. A TPM that has power goes off in order before.
   */
  init(deleteVolatile: boolean): Promise<void>;
  /**
   * Power is removed. Commands in the queue are finished first. With `orderly` the TPM does what TPM2_Shutdown(CLEAR) would have, unless the
   * guest has sent one: the next startup need not suppose that a count was lost. Default: power fails, as when a plug is pulled.
   */
  powerOff(orderly?: boolean): Promise<void>;
  /** True between {@link powerOn} and {@link powerOff}. */
  readonly powered: boolean;
  /**
   * What the machine's interface takes, in bytes, at most `MAX_COMMAND_SIZE`: the guest reads it in TPM_PT_MAX_COMMAND_SIZE and
   * TPM_PT_MAX_RESPONSE_SIZE. Outlives power.
   */
  bufferSize: number;
  /**
   * Cancels the commands that execute or wait: they are answered `TPM_RC_CANCELED` at once and have no effect, except for one that
   * is about to be answered anyway.
   */
  cancel(): void;
  /** `_TPM_Hash_Start`: a D-RTM sequence begins, or before TPM2_Startup one of the H-CRTM. */
  hashStart(): Promise<void>;
  /** `_TPM_Hash_Data`; nothing happens without {@link hashStart}. The TPM keeps no view of `data`. */
  hashData(data: Buffer): Promise<void>;
  /** `_TPM_Hash_End`: what was hashed goes into PCR 17, or PCR 0 before TPM2_Startup. */
  hashEnd(): Promise<void>;
  /** Nothing happens without power, and what a signal has changed ends with it. */
  signal(signal: PlatformSignal): Promise<void>;
  /** A part of the state, encrypted and authenticated for this guest alone. Rejects if there is no such part. */
  getState(part: StatePart): Promise<Buffer>;
  /**
   * Takes what {@link getState} gave; it is put in place, all of it or nothing, by {@link init}, and forgotten by {@link powerOn}. Power must be
   * off. Rejects with {@link StateRefused} if the blob is not one, was changed, or is another guest's, type's or version's.
   */
  setState(part: StatePart, blob: Buffer): Promise<void>;
  /** Keeps the volatile state in durable memory for {@link init}. */
  storeVolatile(): Promise<void>;
  /** The TPM Established flag of the PC Client profile: set by a D-RTM sequence. */
  readonly established: boolean;
  /** Clears the TPM Established flag; only from locality 3 or 4, false otherwise. */
  resetEstablished(locality: number): Promise<boolean>;
}
