// What a run has covered: every served command, refused and done; sessions of every kind.
import { isOwnCommand, type Command } from '../../src/tpm/command.js';
import { TPM_ALG, TPM_CC, TPM_SE, TPMA_SESSION } from '../../src/tpm/constants/index.js';
import { TPM_RC } from '../../src/tpm/response-code.js';
import { servedCommands } from '../../src/vtpm/handlers.js';
import type { StepResult } from './pair.js';
import type { SessionStart, Step, Use } from './step.js';

/** How often something was tried, and how often with success. */
export interface Count {
  readonly sent: number;
  readonly done: number;
}

const sessionTypes = new Map<number, string>([
  [TPM_SE.HMAC, 'HMAC'],
  [TPM_SE.POLICY, 'policy'],
]);
const ciphers = new Map<number, string>([
  [TPM_ALG.AES, 'AES-CFB'],
  [TPM_ALG.CAMELLIA, 'Camellia-CFB'],
  [TPM_ALG.TDES, 'TDES-CFB'],
  [TPM_ALG.XOR, 'XOR'],
]);
const crypts = ['decrypt', 'encrypt'] as const;

/** Every kind of use of a session that a long run has with success. */
const sessionKinds: readonly string[] = [
  'password',
  ...['plain', 'bound', 'salted', 'bound and salted'].flatMap((kind) => [`HMAC, ${kind}`, `policy, ${kind}`]),
  'HMAC of the bound entity',
  'policy, authValue',
  'policy, password',
  'policy, no authValue',
  ...crypts.flatMap((crypt) => [...ciphers.values()].map((cipher) => `${crypt}, ${cipher}`)),
  'audit',
  'auditExclusive',
  'auditReset',
  'two sessions',
  'three sessions',
];

/** The served commands that swtpm has too. */
export const commandsOfBoth: readonly Command[] = [...servedCommands.values()]
  .map(({ command }) => command)
  .filter((command) => !isOwnCommand(command));

class Counter {
  private readonly counts = new Map<string, { sent: number; done: number }>();

  constructor(names: Iterable<string>) {
    for (const name of names) this.counts.set(name, { sent: 0, done: 0 });
  }

  note(name: string, isDone: boolean): void {
    const count = this.counts.get(name) ?? { sent: 0, done: 0 };
    count.sent++;
    if (isDone) count.done++;
    this.counts.set(name, count);
  }

  get rows(): [name: string, count: Count][] {
    return [...this.counts].sort(([a], [b]) => a.localeCompare(b));
  }
}

/** See the file's head. */
export class Coverage {
  /** Commands that both TPMs were sent. */
  commands = 0;
  /** How often swtpm crashed. */
  crashes = 0;
  private readonly byCommand = new Counter(commandsOfBoth.map(({ name }) => name));
  private readonly bySession = new Counter(sessionKinds);
  private readonly byExplanation = new Map<string, number>();
  private readonly starts = new Map<string, SessionStart>();

  note(step: Step, { ours, theirs, explained }: StepResult): void {
    if (step.kind === 'power' || ours === undefined) return;
    const isDone = ours.code === TPM_RC.SUCCESS;
    this.commands++;
    if (theirs === undefined) this.crashes++;
    this.byCommand.note(step.command.name, isDone);
    if (isDone && step.start !== undefined && step.save !== undefined) this.starts.set(step.save.symbol, step.start);
    const kinds = new Set(step.uses.flatMap((use) => this.kindsOf(use)));
    if (step.uses.length > 1) kinds.add(step.uses.length === 2 ? 'two sessions' : 'three sessions');
    for (const kind of kinds) this.bySession.note(kind, isDone);
    for (const { name } of explained) this.byExplanation.set(name, (this.byExplanation.get(name) ?? 0) + 1);
  }

  /** Each served command. */
  get commandRows(): [name: string, count: Count][] {
    return this.byCommand.rows;
  }

  /** Each kind of use of a session. */
  get sessionRows(): [name: string, count: Count][] {
    return this.bySession.rows;
  }

  /** How often an explanation was needed. */
  explained(name: string): number {
    return this.byExplanation.get(name) ?? 0;
  }

  /** Commands and kinds of sessions that were never successful, though they can be. */
  get missing(): string[] {
    const impossible = [servedCommands.get(TPM_CC.PP_Commands)?.command.name];
    return [...this.commandRows, ...this.sessionRows]
      .filter(([name, { done }]) => done === 0 && !impossible.includes(name))
      .map(([name]) => name);
  }

  private kindsOf(use: Use): string[] {
    if (use.session === undefined) return ['password'];
    const start = this.starts.get(use.session);
    if (start === undefined) return [];
    const type = sessionTypes.get(start.sessionType);
    if (type === undefined) return [];
    const key = [start.bindAuth === undefined ? '' : 'bound', start.saltKey === undefined ? '' : 'salted'].filter((word) => word !== '');
    const cipher = ciphers.get(start.symmetric.algorithm);
    return [
      `${type}, ${key.length === 0 ? 'plain' : key.join(' and ')}`,
      ...(use.isBound === true ? ['HMAC of the bound entity'] : []),
      ...(type === 'policy'
        ? [`policy, ${use.asPassword === true ? 'password' : use.withoutAuth === true ? 'no authValue' : 'authValue'}`]
        : []),
      ...crypts
        .filter((crypt) => (use.attributes & TPMA_SESSION[crypt]) !== 0 && cipher !== undefined)
        .map((crypt) => `${crypt}, ${cipher ?? ''}`),
      ...(['audit', 'auditExclusive', 'auditReset'] as const).filter((name) => (use.attributes & TPMA_SESSION[name]) !== 0),
    ];
  }
}
