import { once } from 'node:events';
import type { CachePath, NatsCache } from '@nex-nix/cache';
import type { NarListingNode } from '@nex-nix/nix';
import { Command } from 'commander';
import { type CachedPath, pinName, resolveCached } from '../cached-path.ts';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { formatBytes, type Result } from '../output.ts';
import { formatAgo } from '../units.ts';
import { notCached } from './cache-info.ts';

export const cacheLs = (): Command =>
  new Command('ls')
    .alias('list')
    .description('List the paths in the cache, the last pushed at the end, or the files in one of them')
    .argument('[path]', 'store path or a folder below one, or cache:NAME for what is pinned')
    .option('-R, --recursive', 'files of all folders below too')
    .addHelpText(
      'after',
      '\nExamples:\n  nex cache ls\n  nex cache ls --json | jq -r .[].storePath\n  nex cache ls cache:echo -R\n  nex cache ls /nix/store/…-echo-1.0.0/bin',
    )
    .action(
      action<{ recursive?: boolean }>(async (context, { recursive = false }, text) => {
        const place = text === undefined ? undefined : await parsePlace(text);
        const cache = await openCache(context);
        if (place === undefined) return listPaths(context, cache);
        return listFiles(cache, place, { recursive, signal: context.signal });
      }),
    );

/** The paths, the oldest first, each as soon as it is known: there may be many. */
async function listPaths({ globals, signal }: Context, cache: NatsCache): Promise<undefined> {
  let count = 0;
  for await (const path of cache.list({ signal })) {
    await print(
      globals.json === true ? `${count === 0 ? '[' : ','}\n  ${JSON.stringify(path)}` : `${pathLine(path)}\n`,
    );
    count++;
  }
  if (globals.json === true) await print(count === 0 ? '[]\n' : '\n]\n');
  else if (count === 0) await print('The cache is empty\n');
}

function pathLine({ storePath, narSize, pushedAt }: CachePath): string {
  return `${formatBytes(narSize).padStart(10)}  ${formatAgo(pushedAt).padStart(8)}  ${storePath}`;
}

/** Writes to stdout, no faster than it is read. */
async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

interface ListedFile {
  /** Below the store path, without a leading slash; empty for the store path itself when it is a file. */
  readonly path: string;
  readonly type: NarListingNode['type'];
  readonly size?: number;
  readonly executable?: true;
  readonly target?: string;
}

/** A path in the cache and a place below it, `''` for the path itself. */
interface Place {
  readonly path: CachedPath;
  readonly subPath: string;
}

async function parsePlace(text: string): Promise<Place> {
  const pin = pinName(text);
  if (pin !== undefined) return { path: { pin }, subPath: '' };
  const { splitStorePath } = await import('@nex-nix/nix');
  const { storePath, subPath } = splitStorePath(text);
  return { path: { storePath }, subPath };
}

async function listFiles(
  cache: NatsCache,
  { path, subPath }: Place,
  { recursive, signal }: { recursive: boolean; signal: AbortSignal },
): Promise<Result> {
  const { listNar } = await import('@nex-nix/nix');
  const storePath = await resolveCached(cache, path, signal);
  const info = await cache.pathInfo(storePath, { signal });
  if (info === undefined) throw notCached(cache, storePath);
  const { root } = await listNar(cache.nar(info, { signal }), { origin: storePath, signal });
  const node = descend(root, subPath);
  if (node === undefined) {
    throw new CliError(
      'CLI_PATH_NOT_CACHED',
      `Cannot list "${storePath}/${subPath}": there is no such file in the store path`,
      {
        hint: `nex cache ls ${storePath} -R`,
      },
    );
  }
  const files = [...walk(node, subPath, recursive)];
  return { value: { storePath, files }, text: files.map(line).join('\n') };
}

/** What is at a path below a node; links are not followed. */
function descend(root: NarListingNode, path: string): NarListingNode | undefined {
  let node: NarListingNode | undefined = root;
  for (const name of path.split('/').filter((part) => part !== '')) {
    node = node?.type === 'directory' ? node.entries[name] : undefined;
  }
  return node;
}

/** What is in a folder, or the file itself. */
function* walk(node: NarListingNode, path: string, recursive: boolean): Generator<ListedFile> {
  if (node.type !== 'directory') return yield listed(node, path);
  for (const [name, entry] of Object.entries(node.entries)) {
    const below = path === '' ? name : `${path}/${name}`;
    yield listed(entry, below);
    if (recursive && entry.type === 'directory') yield* walk(entry, below, true);
  }
}

function listed(node: NarListingNode, path: string): ListedFile {
  if (node.type === 'symlink') return { path, type: node.type, target: node.target };
  if (node.type === 'directory') return { path, type: node.type };
  return { path, type: node.type, size: node.size, ...(node.executable === true ? { executable: true } : {}) };
}

function line({ path, type, size, executable, target }: ListedFile): string {
  const kind = {
    regular: executable === true ? '-r-xr-xr-x' : '-r--r--r--',
    directory: 'dr-xr-xr-x',
    symlink: 'lrwxrwxrwx',
  };
  const arrow = target === undefined ? '' : ` -> ${target}`;
  return `${kind[type]} ${String(size ?? 0).padStart(12)}  ${path}${arrow}`;
}
