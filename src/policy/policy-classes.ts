// Policies that guests share: files in one directory, named by the class.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EXIT, Failure, reasonOf, systemCode } from '../failure.js';
import { isClassName } from '../config/names.js';
import { settingsFailure } from '../config/settings-file.js';
import { GuestPolicy, overlay } from './guest-policy.js';
import { parsePolicy, policySource, type PolicyFile } from './policy-file.js';

const FILE = /^(.+)\.(yaml|yml|json)$/;

/** The classes of one directory, as they were when it was read. */
export class PolicyClasses {
  private constructor(
    readonly directory: string,
    private readonly classes: ReadonlyMap<string, PolicyFile | Failure>,
  ) {}

  /** Reads all files. One that is wrong matters only to policies that name it. Rejects with a {@link Failure} if the directory cannot be read. */
  static async read(directory: string): Promise<PolicyClasses> {
    const classes = new Map<string, PolicyFile | Failure>();
    for (const name of await filesIn(directory)) {
      const [, className = ''] = FILE.exec(name) ?? [];
      if (!isClassName(className)) continue;
      const path = join(directory, name);
      classes.set(className, classes.has(className) ? twice(path, className) : await readClass(path));
    }
    return new PolicyClasses(directory, classes);
  }

  /** Names of the classes that can be used. */
  get names(): string[] {
    return [...this.classes].filter(([, each]) => !(each instanceof Failure)).map(([name]) => name);
  }

  /** What is wrong with the others. */
  get problems(): Failure[] {
    return [...this.classes.values()].filter((each) => each instanceof Failure);
  }

  /**
   * A policy with the class that it names.
   * @param path of the policy, for messages
   */
  resolve(file: PolicyFile, path: string): GuestPolicy {
    return new GuestPolicy(file.class === undefined ? file : overlay(this.named(file.class, path), file), path);
  }

  private named(name: string, path: string): PolicyFile {
    const found = this.classes.get(name);
    if (found !== undefined && !(found instanceof Failure)) return found;
    const why =
      found === undefined
        ? `class: there is no class ${name}, which would be the file ${join(this.directory, `${name}.yaml`)}`
        : `class: its class ${name} cannot be used: ${found.what}: ${found.why}`;
    throw new Failure({ ...policySource(path), why, hint: "put the file right and run 'tpmux policy reload'", exit: EXIT.refused });
  }
}

async function readClass(path: string): Promise<PolicyFile | Failure> {
  try {
    const file = parsePolicy(path, await readFile(path, 'utf8'));
    if (file.class !== undefined) return settingsFailure(policySource(path), 'class: Expected none, because the file is a class itself');
    return new GuestPolicy(file, path) instanceof GuestPolicy ? file : settingsFailure(policySource(path), 'it cannot be used');
  } catch (error) {
    return error instanceof Failure ? error : settingsFailure(policySource(path), reasonOf(error));
  }
}

async function filesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => FILE.test(name)).sort();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    const what = `reading the directory of policy classes ${directory}`;
    throw new Failure(
      { code: 'bad_policy', what, why: reasonOf(error), hint: 'correct policies.directory', exit: EXIT.usage },
      { cause: error },
    );
  }
}

function twice(path: string, name: string): Failure {
  return settingsFailure(policySource(path), `there is another file of class ${name}`);
}
