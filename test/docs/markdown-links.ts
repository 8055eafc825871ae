import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** A link that leads nowhere: `docs/x.md:12: y.md#z`. */
export type DeadLink = string;

/** Folders whose Markdown is not of this repository. */
const FOREIGN = /(^|\/)(node_modules|dist|\.data|\.git)(\/|$)/;

/** All Markdown files below a folder, sorted. */
export function markdownFiles(root: string): string[] {
  return globSync('**/*.md', { cwd: root, exclude: (path) => FOREIGN.test(path) })
    .map((file) => join(root, file))
    .sort();
}

/** Links of Markdown files to files that are not there, and to headings that their file has not. Nothing is fetched. */
export function deadLinks(files: readonly string[], root: string): DeadLink[] {
  const anchors = new Map<string, Set<string>>();
  const anchorsOf = (file: string): Set<string> => {
    const known = anchors.get(file) ?? headingAnchors(readFileSync(file, 'utf8'));
    anchors.set(file, known);
    return known;
  };
  return files.flatMap((file) =>
    linksOf(readFileSync(file, 'utf8')).flatMap(({ target, line }) => {
      const [path = '', anchor] = decodeURI(target).split('#');
      const leadsTo = path === '' ? file : resolve(dirname(file), path);
      const isDead =
        !existsSync(leadsTo) ||
        relative(root, leadsTo).startsWith('..') ||
        (anchor !== undefined && statSync(leadsTo).isFile() && !anchorsOf(leadsTo).has(anchor));
      return isDead ? [`${relative(root, file)}:${line}: ${target}`] : [];
    }),
  );
}

interface Link {
  readonly target: string;
  readonly line: number;
}

/** Links and pictures of a page that lead to other places of the repository; what stands in code is none. */
function linksOf(text: string): Link[] {
  return withoutCode(text)
    .split('\n')
    .flatMap((content, index) =>
      [...content.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)|\b(?:src|srcset|href)="([^"]+)"/g)].map((match) => ({
        target: match[1] ?? match[2] ?? '',
        line: index + 1,
      })),
    )
    .filter(({ target }) => !/^[a-z][a-z+.-]*:/i.test(target));
}

/** The anchors that GitHub makes of headings, and those that are written out. */
function headingAnchors(text: string): Set<string> {
  const anchors = new Set<string>();
  const lines = withoutFences(text);
  for (const [, heading = ''] of lines.matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const slug = slugOf(heading);
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  for (const [, id = ''] of lines.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
  return anchors;
}

/** As GitHub does: lower case, no punctuation, hyphens for spaces; of links their text. */
function slugOf(heading: string): string {
  return heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\p{M}_\- ]/gu, '')
    .replaceAll(' ', '-');
}

/** The same lines, empty where there is a block of code. */
function withoutFences(text: string): string {
  return text.replaceAll(/^( *)(```+|~~~+)[^\n]*\n(?:[^]*?\n)?\1\2 *$/gm, (block) => block.replaceAll(/[^\n]/g, ''));
}

function withoutCode(text: string): string {
  return withoutFences(text).replaceAll(/(`+)(?!`)[^\n]*?[^`\n]\1(?!`)/g, '');
}
