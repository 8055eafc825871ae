import type { NatsCache } from '@nex-nix/cache';
import type { PathInfo, StorePath } from '@nex-nix/nix';
import { Command } from 'commander';
import { parseCached, resolveCached } from '../cached-path.ts';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { facts } from '../facts.ts';
import { openCache } from '../open-cache.ts';
import { formatBytes, type Result } from '../output.ts';

export const cacheInfo = (): Command =>
  new Command('info')
    .description('What the cache holds and signs with, or what it knows of a path')
    .argument('[path]', 'store path, or cache:NAME for what is pinned')
    .addHelpText('after', '\nExamples:\n  nex cache info\n  nex cache info cache:echo')
    .action(
      action(async (context, _options, text) => {
        const path = text === undefined ? undefined : await parseCached(text);
        const cache = await openCache(context);
        const { signal } = context;
        if (path === undefined) return ofCache(cache, signal);
        return ofPath(cache, await resolveCached(cache, path, signal), signal);
      }),
    );

async function ofCache(cache: NatsCache, signal: AbortSignal): Promise<Result> {
  const { formatPublicKey } = await import('@nex-nix/nix');
  const publicKey = formatPublicKey(cache.publicKey);
  const stat = await cache.stat({ signal });
  const text = facts([
    ['Server', cache.name],
    ['Public key', publicKey],
    ['Paths', String(stat.paths)],
    ['Pins', String(stat.pins)],
    ['Content', formatBytes(stat.logicalBytes)],
    ['Stored', `${formatBytes(stat.storedBytes)} in ${stat.chunks} chunks and ${stat.manifests} manifests`],
    ['Dedup ratio', `${stat.dedupRatio.toFixed(2)} (content / stored, compression included)`],
  ]);
  return { value: { server: cache.name, publicKey, ...stat }, text: `The cache in NATS\n\n${text}` };
}

async function ofPath(cache: NatsCache, path: StorePath, signal: AbortSignal): Promise<Result> {
  const info = await cache.pathInfo(path, { signal });
  if (info === undefined) throw notCached(cache, path);
  const closure = await cache.closure([path], { signal });
  const closureSize = closure.reduce((sum, { narSize }) => sum + narSize, 0);
  const text = facts([
    ['NAR', `${formatBytes(info.narSize)} ${info.narHash}`],
    ['Closure', `${closure.length} paths, ${formatBytes(closureSize)}`],
    ['Refers to', lines(info.references)],
    ['Derived by', info.deriver ?? '--'],
    ['Signed by', lines(info.signatures.map((signature) => signature.slice(0, signature.indexOf(':'))))],
    ['Content address', info.ca ?? '--'],
  ]);
  return { value: value(info, { closureSize, closurePaths: closure.length }), text: `${path}\n\n${text}` };
}

/** That the cache does not have a path. */
export function notCached(cache: NatsCache, path: StorePath): CliError {
  return new CliError('CLI_PATH_NOT_CACHED', `Cannot find "${path}": it is not in the cache on ${cache.name}`, {
    hint: `nex cache push ${path}`,
  });
}

function value(info: PathInfo, closure: object) {
  const { storePath, narHash, narSize, references, deriver, signatures, ca } = info;
  return { storePath, narHash, narSize, references, deriver, signatures, ca, ...closure };
}

function lines(values: readonly string[]): string {
  return values.length === 0 ? '--' : values.join('\n');
}
