// The same bytes to a vTPM of ours and to a real swtpm, to compare what they answer.
import assert from 'node:assert/strict';
import type { Request, Response } from '../../src/tpm/command.js';
import { GetCapability, Startup } from '../../src/tpm/commands/index.js';
import { TPM_CAP, TPM_PT, TPM_RH, TPM_SU } from '../../src/tpm/constants/index.js';
import { describeResponseCode, TPM_RC } from '../../src/tpm/response-code.js';
import type { TPMS_AUTH_COMMAND } from '../../src/tpm/structures/index.js';
import { type AnyCommand, codeOf, type Execute, frame, parse } from './frames.js';
import { Exchange, responseSize } from './exchange.js';
import { startSwtpm, type Swtpm } from './swtpm.js';
import { openTestTpm, type TestTpm, type TestTpmOptions } from './vtpm.js';

const CMD = { INIT: 2, SET_LOCALITY: 5 } as const;

/** A swtpm that takes whole frames, with locality and power. */
export class FrameSwtpm {
  readonly swtpm: Swtpm;
  private readonly data: Exchange;
  private readonly control: Exchange;
  private locality = 0;

  private constructor(swtpm: Swtpm) {
    this.swtpm = swtpm;
    this.data = new Exchange(swtpm.data);
    this.control = new Exchange(swtpm.control);
  }

  /** A new one; TPM2_Startup(CLEAR) is done. */
  static async start(): Promise<FrameSwtpm> {
    return new FrameSwtpm(await startSwtpm());
  }

  readonly execute: Execute = async (bytes, locality = 0) => {
    if (locality !== this.locality) await this.setLocality(locality);
    const answer = await this.data.send(bytes, responseSize);
    // The first use of an entity under dictionary-attack protection is only noted, and to be repeated; ours notes it and goes on.
    return codeOf(answer) === TPM_RC.RETRY ? this.data.send(bytes, responseSize) : answer;
  };

  /** Power is cut and comes back; TPM2_Startup is the caller's. */
  async powerCycle(): Promise<void> {
    await this.request(CMD.INIT, Buffer.alloc(4));
  }

  async stop(): Promise<void> {
    this.data.close();
    this.control.close();
    await this.swtpm.stop();
  }

  private async setLocality(locality: number): Promise<void> {
    await this.request(CMD.SET_LOCALITY, Buffer.of(locality));
    this.locality = locality;
  }

  private async request(code: number, body: Buffer): Promise<void> {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(code);
    const answer = await this.control.send(Buffer.concat([head, body]), () => 4);
    assert.equal(answer.readUInt32BE(0), 0, `swtpm control command ${code.toString()}`);
  }
}

/** Both answers to one frame. */
export interface Both {
  readonly ours: Buffer;
  readonly theirs: Buffer;
}

/** What two TPMs said, decoded. */
export interface BothOut<C> {
  readonly ours: Response<C>;
  readonly theirs: Response<C>;
}

/** A vTPM of ours and a swtpm, in the same state as far as tests bring them there. */
export class Differential {
  readonly ours: TestTpm;
  readonly theirs: FrameSwtpm;

  constructor(ours: TestTpm, theirs: FrameSwtpm) {
    this.ours = ours;
    this.theirs = theirs;
  }

  /** Sends the same frame to both. */
  async both(bytes: Buffer, locality = 0): Promise<Both> {
    const ours = await this.ours.execute(bytes, locality);
    return { ours, theirs: await this.theirs.execute(bytes, locality) };
  }

  /** Both answer the frame with the same code, which is returned. */
  async sameCode(bytes: Buffer, locality = 0, what = bytes.toString('hex')): Promise<number> {
    const answers = await this.both(bytes, locality);
    assertSameCode(answers, `${what}${this.lastFailure()}`);
    return codeOf(answers.ours);
  }

  /** Both answer the frame with the same bytes, which are returned. */
  async same(bytes: Buffer, locality = 0, what = bytes.toString('hex')): Promise<Buffer> {
    const answers = await this.both(bytes, locality);
    assertSame(answers, `${what}${this.lastFailure()}`);
    return answers.ours;
  }

  /** Both answer the command with the same code, which is returned; with success if `code` is not given. */
  async code<C extends AnyCommand>(command: C, values: Request<C>, sessions?: readonly TPMS_AUTH_COMMAND[], locality = 0): Promise<number> {
    return this.sameCode(frame(command, values, sessions), locality, command.name);
  }

  /** Both do the command; what they return may differ. */
  async run<C extends AnyCommand>(
    command: C,
    values: Request<C>,
    sessions?: readonly TPMS_AUTH_COMMAND[],
    locality = 0,
  ): Promise<BothOut<C>> {
    const answers = await this.both(frame(command, values, sessions), locality);
    assertSameCode(answers, `${command.name}${this.lastFailure()}`);
    const ours = parse(command, answers.ours).out;
    const theirs = parse(command, answers.theirs).out;
    if (ours === undefined || theirs === undefined) assert.fail(`${command.name}: ${describeResponseCode(codeOf(answers.ours))}`);
    return { ours, theirs };
  }

  /** Both do the command and return the same, which is returned. */
  async runSame<C extends AnyCommand>(
    command: C,
    values: Request<C>,
    sessions?: readonly TPMS_AUTH_COMMAND[],
    locality = 0,
  ): Promise<Response<C>> {
    const { ours, theirs } = await this.run(command, values, sessions, locality);
    assert.deepEqual(ours, theirs, command.name);
    return ours;
  }

  /** Power is cut and comes back on both; TPM2_Startup is the caller's. */
  async powerCycle(): Promise<void> {
    await this.ours.powerCycle();
    await this.theirs.powerCycle();
  }

  /** Power is cut and comes back on both, and TPM2_Startup(CLEAR) is done. */
  async restart(): Promise<void> {
    await this.powerCycle();
    assert.equal(await this.code(Startup, { startupType: TPM_SU.CLEAR }), TPM_RC.SUCCESS);
  }

  /** Both have the same values of these properties, and the same policies of hierarchies. */
  async sameProperties(properties: readonly number[] = [TPM_PT.PERMANENT, TPM_PT.STARTUP_CLEAR]): Promise<void> {
    for (const property of properties) {
      await this.same(frame(GetCapability, { capability: TPM_CAP.TPM_PROPERTIES, property, propertyCount: 1 }));
    }
    await this.same(frame(GetCapability, { capability: TPM_CAP.AUTH_POLICIES, property: TPM_RH.SRK, propertyCount: 10 }));
  }

  /** Ends the swtpm. */
  async stop(): Promise<void> {
    await this.theirs.stop();
  }

  private lastFailure(): string {
    const last = this.ours.failures.at(-1);
    return last === undefined
      ? ''
      : `; inside: ${last.what}: ${last.error instanceof Error ? (last.error.stack ?? last.error.message) : String(last.error)}`;
  }
}

/** A new pair, both after TPM2_Startup(CLEAR). Stop it in the test's `after`. */
export async function startDifferential(options: TestTpmOptions = {}): Promise<Differential> {
  return new Differential(await openTestTpm(options), await FrameSwtpm.start());
}

/** The response codes are the same. */
export function assertSameCode({ ours, theirs }: Both, what = ''): void {
  const [mine, other] = [codeOf(ours), codeOf(theirs)];
  assert.ok(mine === other, `${what}: ours ${nameOf(mine)}, swtpm's ${nameOf(other)}`);
}

/** The responses are the same, byte for byte. */
export function assertSame(answers: Both, what = ''): void {
  assertSameCode(answers, what);
  assert.equal(answers.ours.toString('hex'), answers.theirs.toString('hex'), what);
}

function nameOf(code: number): string {
  return code === TPM_RC.SUCCESS ? 'success' : describeResponseCode(code);
}
