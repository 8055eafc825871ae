// The packages of the workspace and what they import, out of their package.json.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { code, page, prose, table } from './markdown.ts';

const ROOT = join(import.meta.dirname, '../..');
const SCOPE = '@nex-nix/';

interface Package {
  readonly name: string;
  readonly folder: string;
  readonly description: string;
  readonly imports: readonly string[];
}

/** `docs/reference/packages.md`. */
export function packagesPage(): string {
  const packages = sortDown(readPackages());
  return page(
    'Packages',
    'An import only ever points down this list; the linter refuses any other. Why these: [decision 0001](../decisions/0001-packages.md). How they work together: [architecture](../architecture.md).',
    table(
      ['Package', 'What it is', 'Imports'],
      packages.map(({ name, folder, description, imports }) => [
        `[${code(name)}](../../${folder}/README.md)`,
        prose(description),
        imports.map(code).join(', '),
      ]),
    ),
  );
}

function readPackages(): Package[] {
  return globSync('packages/*/package.json', { cwd: ROOT })
    .sort()
    .map((file) => {
      const {
        name,
        description,
        dependencies = {},
      } = JSON.parse(readFileSync(join(ROOT, file), 'utf8')) as {
        name: string;
        description: string;
        dependencies?: Record<string, string>;
      };
      const own = Object.keys(dependencies).filter((one) => one.startsWith(SCOPE));
      const imports = own.map((one) => one.slice(SCOPE.length)).sort();
      return { name: name.slice(SCOPE.length), folder: dirname(file), description, imports };
    });
}

/** Each package before those that it imports. */
function sortDown(packages: readonly Package[]): Package[] {
  const sorted: Package[] = [];
  let left = [...packages];
  while (left.length > 0) {
    const next = left.find((one) => left.every((other) => !other.imports.includes(one.name)));
    if (next === undefined)
      throw new Error(`Cannot sort the packages ${left.map(({ name }) => name).join(', ')}: they import each other`);
    sorted.push(next);
    left = left.filter((one) => one !== next);
  }
  return sorted;
}
