// One of the two TPMs: makes its bytes of a step, sends them and takes the response apart.
import { type Command, encodeParameters } from '../../src/tpm/command.js';
import { NV_ReadPublic } from '../../src/tpm/commands/index.js';
import { HANDLE_RANGE, inRange, TPM_RS, TPM_SE, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import { hash } from '../../src/tpm/hash.js';
import { nameOfHandle } from '../../src/tpm/name.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { cpHash, cryptParameter, rpHash, sessionHmac, sessionKey, trimAuth } from '../../src/tpm/session-crypto.js';
import type { TPMS_AUTH_COMMAND, TPMS_AUTH_RESPONSE } from '../../src/tpm/structures/index.js';
import {
  type AnyCommand,
  codeOf,
  decodeOut,
  type Execute,
  frame,
  handlesOf,
  none,
  parse,
  rawFrame,
  splitResponse,
} from '../support/frames.js';
import type { CommandStep, Mutation, Use } from './step.js';
import { resolve, SymbolTable } from './symbols.js';

/** A session as its caller knows it. */
interface SideSession {
  readonly handle: number;
  readonly authHash: number;
  readonly isPolicy: boolean;
  readonly key: Buffer;
  readonly symmetric: { readonly algorithm: number; readonly keyBits: number | null };
  nonceTPM: Buffer;
  nonceCaller: Buffer;
}

/** What one session says in a response. */
export interface SessionAnswer {
  readonly nonceSize: number;
  readonly attributes: number;
  readonly hmacSize: number;
  /** The HMAC is the one that a caller computes. */
  readonly isValid: boolean;
}

/** A response, taken apart. */
export interface Answer {
  readonly bytes: Buffer;
  readonly code: number;
  readonly tag: number;
  readonly handle: number | undefined;
  /** Output parameters; undefined if the response is an error or does not decode. */
  readonly out: Readonly<Record<string, unknown>> | undefined;
  readonly sessions: readonly SessionAnswer[];
  /** What was sent. */
  readonly request: Buffer;
}

const has = (use: Use | undefined, mask: number): boolean => use?.session !== undefined && (use.attributes & mask) !== 0;
const hasEntity = (command: AnyCommand, i: number): boolean => command.handleList[i]?.[1].role !== undefined;

/** See the file's head. */
export class Side {
  readonly symbols = new SymbolTable();
  private readonly send: Execute;
  private readonly sessions = new Map<string, SideSession>();
  /** Names of objects by handle. */
  private readonly names = new Map<number, Buffer>();
  private nonces = 0;

  constructor(send: Execute) {
    this.send = send;
  }

  /** Sends the step. Throws `MissingSymbol` if it refers to something that was never made. */
  async execute(step: CommandStep): Promise<Answer> {
    const { command, locality } = step;
    if (step.save?.inherit !== undefined) this.symbols.get(step.save.inherit);
    const values = resolve(step.values, this.symbols) as Record<string, unknown>;
    const used = step.uses.map((use) => this.sessionOf(use));
    const handles = handlesOf(command as Command, values);
    const parameters = mutate(Buffer.from(encodeParameters(command.inList, values)), step.mutation);
    for (const session of used) if (session !== undefined) session.nonceCaller = this.nextNonce(session.nonceTPM.length);
    this.crypt('encrypt', step, used, parameters);
    const names = used.some((session) => session !== undefined) ? await this.namesOf(handles) : [];
    const areas = step.uses.map((use, i) => this.authorization(step, use, i, used, names, parameters));
    const request = mutateFrame(rawFrame(command.code, handles, parameters, areas), step);
    const bytes = await this.send(request, locality);
    const answer = this.read(step, used, request, bytes);
    if (answer.code === TPM_RC.SUCCESS) this.remember(step, values, answer);
    return answer;
  }

  private sessionOf(use: Use): SideSession | undefined {
    if (use.session === undefined) return undefined;
    const session = this.sessions.get(use.session);
    // The handle of something that is no session of ours, or not any more.
    return session ?? (this.symbols.get(use.session), undefined);
  }

  private nextNonce(size: number): Buffer {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(this.nonces++);
    return hash(0x000d, count).subarray(0, size);
  }

  private async namesOf(handles: readonly number[]): Promise<Buffer[]> {
    const names: Buffer[] = [];
    for (const handle of handles) {
      if (inRange(handle, HANDLE_RANGE.NV_INDEX)) names.push(await this.nvName(handle));
      else if (handle >>> 24 === 0x80 || handle >>> 24 === 0x81) names.push(this.names.get(handle) ?? none);
      else names.push(nameOfHandle(handle));
    }
    return names;
  }

  private async nvName(nvIndex: number): Promise<Buffer> {
    const answer = await this.send(frame(NV_ReadPublic, { nvIndex }), 0);
    return codeOf(answer) === TPM_RC.SUCCESS ? Buffer.from(parse(NV_ReadPublic, answer).out?.nvName ?? none) : none;
  }

  private authorization(
    step: CommandStep,
    use: Use,
    i: number,
    used: readonly (SideSession | undefined)[],
    names: readonly Buffer[],
    parameters: Buffer,
  ): TPMS_AUTH_COMMAND {
    const session = used[i];
    const broken = (value: Buffer): Buffer => (use.broken === true ? breakOneBit(value) : value);
    if (session === undefined) {
      return { sessionHandle: TPM_RS.PW, nonce: none, sessionAttributes: use.attributes, hmac: broken(Buffer.from(use.auth)) };
    }
    const head = { sessionHandle: session.handle, nonce: session.nonceCaller, sessionAttributes: use.attributes };
    if (use.asPassword === true) return { ...head, hmac: broken(Buffer.from(use.auth)) };
    const pHash = cpHash(session.authHash, step.command.code, names, parameters);
    const extra = i === 0 && hasEntity(step.command, 0) ? extraNonces(step.uses, used) : {};
    const hmac = hmacOf(use, use.auth, session, step.command, i, {
      pHash,
      nonceNewer: session.nonceCaller,
      nonceOlder: session.nonceTPM,
      sessionAttributes: use.attributes,
      ...extra,
    });
    return { ...head, hmac: broken(hmac) };
  }

  private crypt(direction: 'encrypt' | 'decrypt', step: CommandStep, used: readonly (SideSession | undefined)[], area: Buffer): void {
    const mask = direction === 'encrypt' ? TPMA_SESSION.decrypt : TPMA_SESSION.encrypt;
    const i = step.uses.findIndex((use) => has(use, mask));
    const [use, session] = [step.uses[i], used[i]];
    if (use === undefined || session === undefined) return;
    const { authHash: alg, symmetric, nonceCaller, nonceTPM } = session;
    const key = hasEntity(step.command, i) ? Buffer.concat([session.key, trimAuth(use.auth)]) : session.key;
    const [nonceNewer, nonceOlder] = direction === 'encrypt' ? [nonceCaller, nonceTPM] : [nonceTPM, nonceCaller];
    try {
      cryptParameter(direction, { alg, symmetric, key, nonceNewer, nonceOlder }, area);
    } catch {
      // The command can't be encrypted: both TPMs are to say so.
    }
  }

  private read(step: CommandStep, used: readonly (SideSession | undefined)[], request: Buffer, bytes: Buffer): Answer {
    const { command } = step;
    const { code, handle, parameters, sessions } = splitResponse(command, bytes);
    const head = { bytes, code, tag: bytes.readUInt16BE(0), handle, request };
    if (code !== TPM_RC.SUCCESS || step.frameMutation !== undefined) return { ...head, out: undefined, sessions: [] };
    const answers = step.uses.map((use, i) => this.readSession(step, use, i, used[i], parameters, sessions[i]));
    const clear = Buffer.from(parameters);
    this.crypt('decrypt', step, used, clear);
    let out: Record<string, unknown> | undefined;
    try {
      out = decodeOut(command, handle, clear) as Record<string, unknown>;
    } catch {
      out = undefined;
    }
    return { ...head, out, sessions: answers };
  }

  private readSession(
    step: CommandStep,
    use: Use,
    i: number,
    session: SideSession | undefined,
    parameters: Buffer,
    answer: TPMS_AUTH_RESPONSE | undefined,
  ): SessionAnswer {
    if (answer === undefined) return { nonceSize: -1, attributes: -1, hmacSize: -1, isValid: false };
    const head = { nonceSize: answer.nonce.length, attributes: answer.sessionAttributes, hmacSize: answer.hmac.length };
    if (session === undefined || use.asPassword === true) {
      if (session !== undefined) session.nonceTPM = Buffer.from(answer.nonce);
      return { ...head, isValid: answer.hmac.length === 0 };
    }
    session.nonceTPM = Buffer.from(answer.nonce);
    const expected = hmacOf(use, use.newAuth ?? use.auth, session, step.command, i, {
      pHash: rpHash(session.authHash, TPM_RC.SUCCESS, step.command.code, parameters),
      nonceNewer: session.nonceTPM,
      nonceOlder: session.nonceCaller,
      sessionAttributes: answer.sessionAttributes,
    });
    return { ...head, isValid: expected.equals(answer.hmac) };
  }

  private remember(step: CommandStep, values: Readonly<Record<string, unknown>>, answer: Answer): void {
    const { save, start } = step;
    if (save === undefined || answer.out === undefined) return;
    const inherited = save.inherit === undefined ? {} : this.symbols.get(save.inherit).out;
    const out = copyOf({ ...inherited, ...answer.out }) as Record<string, unknown>;
    const handle = save.handle ?? answer.handle ?? (save.inherit === undefined ? undefined : this.symbols.get(save.inherit).handle);
    this.symbols.set(save.symbol, { handle, out });
    if (handle !== undefined) this.names.set(handle, Buffer.isBuffer(out['name']) ? out['name'] : none);
    if (start === undefined || handle === undefined) return;
    const nonceTPM = out['nonceTPM'] as Buffer;
    const nonceCaller = Buffer.from(values['nonceCaller'] as Buffer);
    const salt = start.saltKey === undefined ? none : (this.symbols.get(start.saltKey).out['secret'] as Buffer);
    const bound = start.bindAuth === undefined ? undefined : trimAuth(start.bindAuth);
    this.sessions.set(save.symbol, {
      handle,
      authHash: start.authHash,
      isPolicy: start.sessionType !== TPM_SE.HMAC,
      key: sessionKey(start.authHash, bound, salt, nonceTPM, nonceCaller),
      symmetric: start.symmetric,
      nonceTPM,
      nonceCaller,
    });
  }
}

/** What the views of a response become when it is kept. */
function copyOf(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(copyOf);
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, copyOf(element)]));
}

function breakOneBit(value: Buffer): Buffer {
  if (value.length === 0) return Buffer.of(1);
  const broken = Buffer.from(value);
  broken[0] = (broken[0] ?? 0) ^ 1;
  return broken;
}

function extraNonces(uses: readonly Use[], used: readonly (SideSession | undefined)[]): { nonceDecrypt?: Buffer; nonceEncrypt?: Buffer } {
  const decrypt = uses.findIndex((use) => has(use, TPMA_SESSION.decrypt));
  const encrypt = uses.findIndex((use) => has(use, TPMA_SESSION.encrypt));
  const [nonceDecrypt, nonceEncrypt] = [used[decrypt]?.nonceTPM, used[encrypt]?.nonceTPM];
  return {
    ...(decrypt > 0 && nonceDecrypt !== undefined && { nonceDecrypt }),
    ...(encrypt > 0 && encrypt !== decrypt && nonceEncrypt !== undefined && { nonceEncrypt }),
  };
}

type HmacParts = Omit<Parameters<typeof sessionHmac>[0], 'alg' | 'key'>;

function hmacOf(use: Use, auth: Buffer, session: SideSession, command: AnyCommand, i: number, parts: HmacParts): Buffer {
  const includeAuth = hasEntity(command, i) && use.withoutAuth !== true && use.isBound !== true;
  const key = includeAuth ? Buffer.concat([session.key, trimAuth(auth)]) : session.key;
  if (key.length === 0 && (session.isPolicy || !includeAuth)) return none;
  return sessionHmac({ alg: session.authHash, key, ...parts });
}

function mutate(parameters: Buffer, mutation: Mutation | undefined): Buffer {
  switch (mutation?.kind) {
    case undefined:
      return parameters;
    case 'truncate':
      return parameters.subarray(0, Math.max(0, parameters.length - mutation.bytes));
    case 'append':
      return Buffer.concat([parameters, mutation.bytes]);
    case 'replace':
      return Buffer.from(mutation.bytes);
    case 'flip': {
      const at = parameters.length === 0 ? 0 : mutation.at % parameters.length;
      if (at < parameters.length) parameters[at] = (parameters[at] ?? 0) ^ (1 << mutation.bit);
      return parameters;
    }
  }
}

const HEADER_SIZE = 10;

function mutateFrame(request: Buffer, { command, frameMutation }: CommandStep): Buffer {
  switch (frameMutation?.kind) {
    case undefined:
      return request;
    case 'tag':
      request.writeUInt16BE(frameMutation.value, 0);
      return request;
    case 'code':
      request.writeUInt32BE((command.code ^ frameMutation.xor) >>> 0, 6);
      return request;
    case 'authorizationSize': {
      const at = HEADER_SIZE + 4 * command.handleList.length;
      request.writeUInt32BE((request.readUInt32BE(at) + frameMutation.add) >>> 0, at);
      return request;
    }
    case 'cut': {
      const cut = request.subarray(0, Math.max(HEADER_SIZE, request.length - frameMutation.bytes));
      cut.writeUInt32BE(cut.length, 2);
      return cut;
    }
  }
}
