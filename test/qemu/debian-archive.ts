// Packages of Debian's archive, by an apt with lists of its own: it needs no root, changes nothing of the system, and is never out of date.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const MAIN_ARCHIVE = 'http://deb.debian.org/debian/';

/** Debian's code name of this system, e.g. `bookworm`. */
export async function release(): Promise<string> {
  const { stdout } = await run('sh', ['-c', '. /etc/os-release && echo "$VERSION_CODENAME"']);
  return stdout.trim();
}

/** One suite of the archive that the system's own apt uses. */
export class DebianSuite {
  private constructor(
    readonly name: string,
    private readonly work: string,
    private readonly options: readonly string[],
  ) {}

  /** Fetches the list of packages of a suite, e.g. `bookworm-backports`. Rejects if the archive cannot be reached or has no such suite. */
  static async open(name: string): Promise<DebianSuite> {
    const work = await mkdtemp(join(tmpdir(), 'tpmux-apt-'));
    const lists = join(work, 'lists');
    const sources = join(work, 'sources.list');
    await mkdir(join(lists, 'partial'), { recursive: true });
    const signed = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : '';
    await writeFile(sources, `deb ${signed}${await archive()} ${name} main\n`);
    const settings = [
      ...[`Dir::Etc::SourceList=${sources}`, 'Dir::Etc::SourceParts=-', `Dir::State::Lists=${lists}`, `Dir::Cache=${work}`],
      // As root, apt would hand the work to a user that may not be able to come here.
      'APT::Sandbox::User=root',
    ];
    const suite = new DebianSuite(
      name,
      work,
      settings.flatMap((setting) => ['-o', setting]),
    );
    try {
      await run('apt-get', [...suite.options, '-q', '-o', 'APT::Update::Error-Mode=any', 'update']);
      return suite;
    } catch (error) {
      await suite.close();
      throw error;
    }
  }

  /** The first package on which `name` depends that `pattern` describes; undefined if there is none. */
  async dependency(name: string, pattern: RegExp): Promise<string | undefined> {
    const { stdout } = await run('apt-cache', [...this.options, 'depends', name]).catch(() => ({ stdout: '' }));
    return [...stdout.matchAll(/Depends: (\S+)/g)].map(([, found]) => found ?? '').find((found) => pattern.test(found));
  }

  async has(name: string): Promise<boolean> {
    const { stdout } = await run('apt-cache', [...this.options, 'show', '--no-all-versions', name]).catch(() => ({ stdout: '' }));
    return stdout !== '';
  }

  /** Downloads a package and unpacks it below `directory`, without installing it. */
  async unpack(name: string, directory: string): Promise<void> {
    const into = await mkdtemp(join(this.work, 'deb-'));
    await run('apt-get', [...this.options, '-q', 'download', name], { cwd: into });
    const archive = (await readdir(into)).find((entry) => entry.endsWith('.deb'));
    await run('dpkg-deb', ['-x', join(into, archive ?? name), directory]);
  }

  async close(): Promise<void> {
    await rm(this.work, { recursive: true, force: true });
  }
}

/** Where the system gets its packages of Debian's main archive: a mirror, perhaps. */
async function archive(): Promise<string> {
  const name = await release();
  const format = '$(LABEL)|$(CODENAME)|$(REPO_URI)';
  const { stdout: targets } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const known = targets.split('\n').find((target) => target.startsWith(`Debian|${name}|`));
  if (known !== undefined) return known.slice(known.lastIndexOf('|') + 1);
  // Without lists apt knows no more than what is configured.
  const { stdout: addresses } = await run('apt-get', ['update', '--print-uris']);
  return new RegExp(`'(\\S+/)dists/${name}/InRelease'`).exec(addresses)?.[1] ?? MAIN_ARCHIVE;
}
