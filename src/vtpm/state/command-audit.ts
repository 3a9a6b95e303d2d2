// TPM 2.0 Library Part 1, 34.2: command audit.
import { TPM_ALG, TPM_CC } from '../../tpm/constants/index.js';
import { digestSize, hash } from '../../tpm/hash.js';
import { list, struct, tpm2b, uint16, uint32, uint64, uint8 } from '../../tpm/schema.js';
import { section, type SectionReader, type SectionWriter, type StateModule } from '../persistence/section.js';
import type { DurableState } from './durable.js';

const RECORD_KEY = 'command-audit';
const MAX_COMMANDS = 1024;
const record = struct({ version: uint8, alg: uint16, counter: uint64, commands: list(uint32, MAX_COMMANDS) });
const none = Buffer.alloc(0);

const untilPowerOff = section('command-audit', struct({ digest: tpm2b(64), algChanged: uint8 }));

/** Which commands are audited, and the digest of those that were executed. */
export class CommandAudit implements StateModule {
  /** Hash algorithm of the digest. */
  alg: number = TPM_ALG.SHA512;
  /** Number of digests that were begun (TPM_PT_AUDIT_COUNTER). */
  counter = 0n;
  /** Empty while no audited command has been executed since the digest was read or the TPM reset. */
  digest: Buffer = none;
  private readonly audited = new Set<number>([TPM_CC.SetCommandCodeAuditStatus]);
  /** The algorithm has just been changed: the command that did it is not audited. */
  private algChanged = false;
  private readonly durable: DurableState;

  constructor(durable: DurableState) {
    this.durable = durable;
  }

  async load(): Promise<void> {
    const saved = await this.durable.load(RECORD_KEY, record);
    if (saved === undefined) return;
    this.alg = saved.alg;
    this.counter = saved.counter;
    this.audited.clear();
    for (const code of saved.commands) this.audited.add(code);
  }

  isAudited(code: number): boolean {
    return this.audited.has(code);
  }

  /** Digest of the codes of all audited commands, ascending (TPMS_COMMAND_AUDIT_INFO `commandDigest`). */
  get commandDigest(): Buffer {
    const codes = Buffer.alloc(4 * this.audited.size);
    [...this.audited].sort((a, b) => a - b).forEach((code, i) => codes.writeUInt32BE(code, 4 * i));
    return hash(this.alg, codes);
  }

  /** Changes the algorithm; the digest starts over. */
  setAlgorithm(alg: number): void {
    this.alg = alg;
    this.digest = none;
    this.algChanged = true;
    this.store();
  }

  /** Changes which commands are audited. SetCommandCodeAuditStatus always is, Shutdown never. */
  setCommands(set: readonly number[], clear: readonly number[]): void {
    for (const code of set) if (code !== TPM_CC.Shutdown) this.audited.add(code);
    for (const code of clear) if (code !== TPM_CC.SetCommandCodeAuditStatus) this.audited.delete(code);
    this.store();
  }

  /** An audited command was executed; the hashes are asked for with {@link alg}. */
  note(cpHash: (alg: number) => Buffer, rpHash: (alg: number) => Buffer): void {
    if (this.algChanged) {
      this.algChanged = false;
      return;
    }
    if (this.digest.length === 0) {
      this.digest = Buffer.alloc(digestSize(this.alg));
      this.counter++;
      this.store();
    }
    this.digest = hash(this.alg, this.digest, cpHash(this.alg), rpHash(this.alg));
  }

  /** The digest was read and signed, or the TPM reset: the next audited command begins a new one. */
  clearDigest(): void {
    this.digest = none;
  }

  /** TPM2_Clear. */
  clear(): void {
    this.counter = 0n;
    this.store();
  }

  writeSections(writer: SectionWriter): void {
    const { digest, algChanged } = this;
    writer.one(untilPowerOff, () => ({ digest, algChanged: Number(algChanged) }), [digest, algChanged]);
  }

  readSections(reader: SectionReader): void {
    const { digest, algChanged } = reader.one(untilPowerOff);
    this.digest = Buffer.from(digest);
    this.algChanged = algChanged !== 0;
  }

  private store(): void {
    const { alg, counter } = this;
    this.durable.put(RECORD_KEY, record, { version: 1, alg, counter, commands: [...this.audited] });
  }
}
