/** What a transport needs of one guest's TPM. A vTPM never sees a socket; a transport never sees a key. */
export interface GuestTpm {
  /**
   * Executes one complete command frame and gives the complete response frame; commands are executed in the order of the calls.
   * Never rejects: what fails inside is answered `TPM_RC_FAILURE`.
   * @param command one frame, header included, at most {@link MAX_COMMAND_SIZE} bytes; the TPM keeps no view of it
   * @param locality 0 to 4
   */
  execute(command: Buffer, locality: number): Promise<Buffer>;
  /** `_TPM_Init`: power is applied or reset; the TPM waits for TPM2_Startup. Volatile state is lost. */
  powerOn(): Promise<void>;
  /** Power is removed, with or without an orderly TPM2_Shutdown before. Commands in the queue are finished first. */
  powerOff(): Promise<void>;
  /** True between {@link powerOn} and {@link powerOff}. */
  readonly powered: boolean;
  /** Asks the command that is executing to end with `TPM_RC_CANCELED` if it can. */
  cancel(): void;
  /** The TPM Established flag of the PC Client profile: set by a D-RTM sequence. */
  readonly established: boolean;
  /** Clears the TPM Established flag; only from locality 3 or 4, false otherwise. */
  resetEstablished(locality: number): boolean;
}

/** Largest command and response, in bytes, as reported in TPM_PT_MAX_COMMAND_SIZE and TPM_PT_MAX_RESPONSE_SIZE. */
export const MAX_COMMAND_SIZE = 4096;
