// TPM 2.0 Library Part 1, 14.5: a primary key is a function of seed and template. The chip's keys are random, so
// the function is kept as a table: the first creation records its result.
import type { KeyManagement } from '../../keys/key-management.js';
import type { CreatedKey } from '../../keys/engine.js';
import { TPM_ALG } from '../../tpm/constants/index.js';
import { hmac } from '../../tpm/hash.js';
import { TPM_RC, TpmError } from '../../tpm/response-code.js';
import { encode, struct, tpm2b, uint8 } from '../../tpm/schema.js';
import { TPMT_PUBLIC } from '../../tpm/structures/index.js';
import type { Limits } from '../limits.js';
import type { DurableState } from './durable.js';
import type { Hierarchy } from './hierarchies.js';

const PREFIX = 'primary/';
const record = struct({ version: uint8, publicArea: TPMT_PUBLIC, engineId: uint8, serialized: tpm2b(4096) });

const prefixOf = (hierarchy: number): string => `${PREFIX}${hierarchy.toString(16)}/`;

/** The primary keys that were ever created in each hierarchy, until its seed changes. */
export class PrimaryRecords {
  private readonly records = new Map<string, { publicArea: TPMT_PUBLIC; engineId: number; serialized: Buffer }>();
  private readonly keys: KeyManagement;
  private readonly limits: Limits;
  private readonly durable: DurableState;

  constructor(durable: DurableState, keys: KeyManagement, limits: Limits) {
    this.durable = durable;
    this.keys = keys;
    this.limits = limits;
  }

  async load(): Promise<void> {
    this.records.clear();
    for (const [rest, value] of await this.durable.loadAll(PREFIX, record)) this.records.set(PREFIX + rest, value);
  }

  /**
   * The key for a template: the recorded one, or a new one that `create` makes. Only template, seed and sensitive data count,
   * as in the specification. `TPM_RC_MEMORY` if there are too many.
   */
  async obtain(hierarchy: Hierarchy, template: TPMT_PUBLIC, sensitiveData: Buffer, create: () => Promise<CreatedKey>): Promise<CreatedKey> {
    const digest = hmac(TPM_ALG.SHA256, hierarchy.seed, encode(TPMT_PUBLIC, template), sensitiveData);
    const key = prefixOf(hierarchy.handle) + digest.toString('hex');
    const known = this.records.get(key);
    if (known !== undefined) {
      const { publicArea, engineId, serialized } = known;
      return { publicArea, privatePart: this.keys.restore(engineId, publicArea, serialized) };
    }
    if (this.records.size >= this.limits.primaryRecords) throw new TpmError(TPM_RC.MEMORY);
    const created = await create();
    const { publicArea, privatePart } = created;
    const value = { version: 1, publicArea, engineId: privatePart.engineId, serialized: privatePart.serialize() };
    this.records.set(key, value);
    this.durable.put(key, record, value);
    return created;
  }

  /** Forgets the keys of a hierarchy whose seed has changed. */
  forget(hierarchy: number): void {
    for (const key of [...this.records.keys()]) {
      if (!key.startsWith(prefixOf(hierarchy))) continue;
      this.records.delete(key);
      this.durable.delete(key);
    }
  }
}
