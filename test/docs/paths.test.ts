// Documents name files and folders that are there, and the description of the house has every room.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const documents = ['README.md', 'CHANGELOG.md', ...readdirSync(join(root, 'docs')).map((name) => join('docs', name))].filter((name) =>
  name.endsWith('.md'),
);
/** What a path of the project begins with. */
const PATH = /^(?:src|test|docs|scripts|native|packaging)\/[\w./-]*$/;
/** Rooms, and the rooms in them; what is deeper belongs to the paragraph of its room. */
const DEPTH = 2;

const textOf = (document: string): string => readFileSync(join(root, document), 'utf8');
/** The text without blocks of code: what users type there is about files of theirs. */
const prose = (text: string): string => text.replace(/^```[\s\S]*?^```/gm, '').replace(/^ {4}.*$/gm, '');

function rooms(folder: string, depth: number): string[] {
  return readdirSync(join(root, folder))
    .map((name) => `${folder}/${name}`)
    .filter((path) => statSync(join(root, path)).isDirectory())
    .flatMap((path) => [path, ...(depth > 1 ? rooms(path, depth - 1) : [])]);
}

describe('documents', () => {
  for (const document of documents) {
    it(`${document} names what is there`, () => {
      const text = textOf(document);
      const named = [...prose(text).matchAll(/`([^`\s]+)`/g)].map(([, path = '']) => path).filter((path) => PATH.test(path));
      const missing = named.filter((path) => !existsSync(join(root, path)));
      assert.deepEqual([...new Set(missing)], []);
      const links = [...prose(text).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, target = '']) => target);
      const dead = links.filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(document), target)));
      assert.deepEqual([...new Set(dead)], []);
    });

    it(`${document} links to headings that are there`, () => {
      for (const [, target = '', heading = ''] of prose(textOf(document)).matchAll(/\]\(([^)#\s]*)#([^)]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const file = target === '' ? document : relative(root, resolve(root, dirname(document), target));
        const headings = [...textOf(file).matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => slug(title));
        assert.ok(headings.includes(heading), `${file} has no heading #${heading}`);
      }
    });
  }

  it('docs/architecture.md has every room', () => {
    const text = textOf('docs/architecture.md');
    assert.deepEqual(
      rooms('src', DEPTH).filter((room) => !text.includes(`\`${room}\``)),
      [],
    );
  });

  it('README.md leads to every document', () => {
    const reached = new Set<string>();
    const visit = (document: string): void => {
      if (reached.has(document)) return;
      reached.add(document);
      for (const [, target = ''] of prose(textOf(document)).matchAll(/\]\(([^)#\s]+\.md)(?:#[^)]*)?\)/g)) {
        visit(relative(root, resolve(root, dirname(document), target)));
      }
    };
    visit('README.md');
    assert.deepEqual(
      documents.filter((document) => document !== 'CHANGELOG.md' && !reached.has(document)),
      [],
    );
  });
});

/** The anchor that a heading gets on the usual sites. */
function slug(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w\s-]/g, '')
    .trim()
    .replace(/\s/g, '-');
}
