// TPM 2.0 Library Part 1, 39 and Part 3, 26.2: physical presence. Only the simulator's platform port can assert it.
import { TPM_CC } from '../tpm/constants/index.js';
import { list, struct, uint32, uint8 } from '../tpm/schema.js';
import type { DurableState } from './state/durable.js';

const RECORD_KEY = 'physical-presence';
const MAX_COMMANDS = 64;
const record = struct({ version: uint8, commands: list(uint32, MAX_COMMANDS) });

/** Commands that PP_Commands may put on its list: those that the platform may authorize. */
const POSSIBLE: ReadonlySet<number> = new Set([
  TPM_CC.ChangeEPS,
  TPM_CC.ChangePPS,
  TPM_CC.Clear,
  TPM_CC.ClearControl,
  TPM_CC.ClockRateAdjust,
  TPM_CC.ClockSet,
  TPM_CC.CreatePrimary,
  TPM_CC.EvictControl,
  TPM_CC.HierarchyChangeAuth,
  TPM_CC.HierarchyControl,
  TPM_CC.NV_DefineSpace,
  TPM_CC.NV_GlobalWriteLock,
  TPM_CC.NV_UndefineSpace,
  TPM_CC.NV_UndefineSpaceSpecial,
  TPM_CC.PCR_Allocate,
  TPM_CC.PCR_SetAuthPolicy,
  TPM_CC.SetAlgorithmSet,
  TPM_CC.SetCommandCodeAuditStatus,
  TPM_CC.SetPrimaryPolicy,
]);

/** Whether somebody is present, and the commands for which the platform has to be. */
export class PhysicalPresence {
  /** Lost with power, and with this process. */
  asserted = false;
  private commands: ReadonlySet<number> = new Set();

  constructor(private readonly durable: DurableState) {}

  async load(): Promise<void> {
    this.commands = new Set((await this.durable.load(RECORD_KEY, record))?.commands);
  }

  /** Whether the platform may authorize the command only with presence. `PP_Commands` itself is always such a command. */
  requires(code: number): boolean {
    return code === TPM_CC.PP_Commands || this.commands.has(code);
  }

  /** Puts commands on the list, then takes others off; those that cannot be on it, or off it, are passed over. */
  change(added: readonly number[], removed: readonly number[]): void {
    const commands = new Set(this.commands);
    for (const code of added) if (POSSIBLE.has(code)) commands.add(code);
    for (const code of removed) commands.delete(code);
    this.commands = commands;
    this.durable.put(RECORD_KEY, record, { version: 1, commands: [...commands] });
  }
}
