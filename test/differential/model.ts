// What the generator knows of the two TPMs: which entities there are and how they are authorized. It may be wrong: then both TPMs refuse.
import { TPM_RH, TPMA_NV } from '../../src/tpm/constants/index.js';
import type { HashAlgorithm } from '../../src/tpm/constants/index.js';
import type { TPMS_NV_PUBLIC, TPMT_PUBLIC } from '../../src/tpm/structures/index.js';
import type { AnyCommand } from '../support/frames.js';
import { none } from '../support/frames.js';
import type { HandleValue } from './step.js';
import { handleOf, type Symbolic } from './symbols.js';

/** One command of a policy; `values` has everything but the session. */
export interface PolicyElement {
  readonly command: AnyCommand;
  readonly values: Readonly<Record<string, unknown>>;
  readonly gives?: 'authValue' | 'password';
  /** Its digest depends on what the TPMs have drawn. */
  readonly random?: boolean;
}

/** A policy that can be fulfilled by doing its commands again. */
export interface Policy {
  readonly alg: HashAlgorithm;
  readonly elements: readonly PolicyElement[];
  readonly digest: Buffer | Symbolic<Buffer>;
}

/** Whatever has an authorization value. */
export class Entity {
  readonly handle: HandleValue;
  auth: Buffer;
  policy: Policy | undefined;
  /** Cannot be used with its authValue by USER. */
  policyOnly = false;

  constructor(handle: HandleValue, auth: Buffer = none, policy?: Policy) {
    this.handle = handle;
    this.auth = auth;
    this.policy = policy;
  }
}

/** What is known of an object, loaded or not. */
export interface ObjectFacts {
  readonly template: TPMT_PUBLIC;
  readonly hierarchy: number;
  /** All of it was given from outside: public area, and private part if there is one. */
  readonly external: boolean;
  /** The sensitive data (HMAC or cipher key) was given from outside. */
  readonly knownSecret: boolean;
  readonly hasPrivate: boolean;
}

/** An object or sequence in memory, or a persistent object. */
export class LoadedObject extends Entity {
  readonly symbol: string;
  readonly facts: ObjectFacts | undefined;
  readonly sequence: 'hash' | 'event' | 'hmac' | undefined;
  /** Symbol that has its creationHash and creationTicket. */
  creation: string | undefined;
  /** Whose child it is. */
  parent: LoadedObject | undefined;

  constructor(
    symbol: string,
    handle: HandleValue,
    auth: Buffer,
    facts?: ObjectFacts,
    sequence?: LoadedObject['sequence'],
    policy?: Policy,
  ) {
    super(handle, auth, policy);
    this.symbol = symbol;
    this.facts = facts;
    this.sequence = sequence;
    this.policyOnly = facts !== undefined && (facts.template.objectAttributes & 0x40) === 0;
  }

  static transient(symbol: string, auth: Buffer, facts?: ObjectFacts, sequence?: LoadedObject['sequence'], policy?: Policy): LoadedObject {
    return new LoadedObject(symbol, handleOf(symbol), auth, facts, sequence, policy);
  }
}

/** A private and a public area that Load takes. */
export interface StoredKey {
  readonly privateOf: Symbolic<Buffer>;
  readonly publicOf: Symbolic<TPMT_PUBLIC>;
  readonly parent: LoadedObject;
  readonly auth: Buffer;
  readonly facts: ObjectFacts;
  readonly policy: Policy | undefined;
  /** As of {@link LoadedObject}. */
  readonly creation?: string;
}

/** A saved context of an object. */
export interface SavedObject {
  readonly context: string;
  readonly of: LoadedObject;
}

/** A session. */
export interface SessionModel {
  readonly symbol: string;
  readonly isPolicy: boolean;
  readonly isTrial: boolean;
  readonly alg: HashAlgorithm;
  readonly canEncrypt: boolean;
  readonly bind?: Entity;
  saved: string | undefined;
  /** Of a policy session: what was done. */
  elements: PolicyElement[];
}

/** An NV index. */
export class NvIndex extends Entity {
  readonly publicArea: TPMS_NV_PUBLIC;
  isWritten = false;

  constructor(publicArea: TPMS_NV_PUBLIC, auth: Buffer, policy?: Policy) {
    super(publicArea.nvIndex, auth, policy);
    this.publicArea = publicArea;
  }
}

/** See the file's head. */
export class Model {
  readonly owner = new Entity(TPM_RH.OWNER);
  readonly endorsement = new Entity(TPM_RH.ENDORSEMENT);
  readonly platform = new Entity(TPM_RH.PLATFORM);
  readonly lockout = new Entity(TPM_RH.LOCKOUT);
  readonly null = new Entity(TPM_RH.NULL);
  loaded: LoadedObject[] = [];
  persistent: LoadedObject[] = [];
  stored: StoredKey[] = [];
  savedObjects: SavedObject[] = [];
  sessions: SessionModel[] = [];
  /** What the last plan that starts a session has started. */
  newest: SessionModel | undefined;
  policies: Policy[] = [];
  nv = new Map<number, NvIndex>();
  /** How far clocks were set, in hours. */
  hours = 0;
  /** Dictionary-attack protection counts failures. */
  countsFailures = true;
  /** PCR_Allocate was successful and waits for a power cycle: libtpms forgets it in Clear. */
  isAllocationPending = false;
  pcrAuth = new Map<number, Entity>();

  get objects(): LoadedObject[] {
    return [...this.loaded, ...this.persistent];
  }

  hierarchy(handle: number): Entity {
    const found = [this.owner, this.endorsement, this.platform, this.lockout].find((entity) => entity.handle === handle);
    return found ?? this.null;
  }

  /** TPM reset, restart or resume: what is in memory is gone. */
  powerLost(): void {
    this.loaded = [];
    this.sessions = this.sessions.filter(({ saved }) => saved !== undefined);
    this.platform.auth = none;
    this.isAllocationPending = false;
  }

  /** What is loaded of the hierarchy is flushed; `forever` if what is stored is gone too. */
  hierarchyGone(hierarchy: number, forever: boolean): void {
    const stays = ({ facts }: LoadedObject): boolean => facts?.hierarchy !== hierarchy;
    this.loaded = this.loaded.filter(stays);
    if (!forever) return;
    this.persistent = this.persistent.filter(stays);
    if (hierarchy !== TPM_RH.OWNER) return;
    for (const [handle, { publicArea }] of this.nv) if ((publicArea.attributes & TPMA_NV.PLATFORMCREATE) === 0) this.nv.delete(handle);
  }

  /** Whether all objects among the values are there still. */
  has(values: Readonly<Record<string, unknown>>): boolean {
    return Object.values(values).every((value) => !(value instanceof LoadedObject) || value.symbol === '' || this.objects.includes(value));
  }

  forget(object: LoadedObject): void {
    this.loaded = this.loaded.filter((other) => other !== object);
    this.persistent = this.persistent.filter((other) => other !== object);
  }
}
