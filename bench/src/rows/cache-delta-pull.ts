import { join } from 'node:path';
import { LocalChunks, NatsCache } from '@nex-nix/cache';
import { copyClosure, LocalStore, type StorePath } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { CHANGED_LINE, Closure, type Generation } from './cache-bytes.ts';
import { type BenchCache, startCache } from './cache-process.ts';
import { milliseconds } from './nix-closure.ts';

const RUNS = 3;
const MIB = 2 ** 20;

export const deltaPull: Row = {
  id: 'cache.delta.pull.bytes',
  what: 'bytes that reach a node for the second version of a closure of 100 MiB when its store has the first; one line changed in the application of 8 MiB',
  unit: 'MiB',
  peer: 'pull of the first version into an empty store',
  wanted: 0.02,
  async measure(): Promise<Measurement> {
    const line = await pullBoth({ hashes: '1', appChange: CHANGED_LINE });
    const rebuild = await pullBoth({ hashes: '2' });
    const library = await pullBoth({ hashes: '2', libraryChange: CHANGED_LINE });
    return {
      values: line.map(({ second }) => second.received),
      peerValues: line.map(({ first }) => first.received),
      notes: [
        `  the line: ${shares(line)}`,
        `  every hash changed, and nothing else: ${shares(rebuild)}`,
        `  every hash, and a line in the library that all others refer to: ${shares(library)}`,
      ],
    };
  },
};

interface Pull {
  /** In MiB. */
  readonly received: number;
  readonly ms: number;
}

interface Pulls {
  readonly first: Pull;
  readonly second: Pull;
  /** The second version into an empty store. */
  readonly whole: Pull;
}

/** Pulls the first version, then a second one into the same store, and into an empty one. */
async function pullBoth(generation: Generation): Promise<Pulls[]> {
  await using dir = await tempDir('nex-bench-');
  await using cache = await startCache(dir.path);
  const roots: StorePath[] = [];
  for (const version of [{ hashes: '1' }, generation]) {
    const source = await Closure.make(version);
    await cache.client.push(source, [source.root]);
    roots.push(source.root);
  }
  const [before, after] = roots as [StorePath, StorePath];
  const runs: Pulls[] = [];
  for (let i = 0; i < RUNS; i++) {
    await using stores = await tempDir('nex-bench-');
    const [node, empty] = [join(stores.path, 'node'), join(stores.path, 'empty')];
    const first = await pull(cache, node, before);
    const second = await pull(cache, node, after);
    runs.push({ first, second, whole: await pull(cache, empty, after) });
  }
  return runs;
}

/** A pull by a client of its own, which remembers nothing. */
async function pull({ nc }: BenchCache, dir: string, root: StorePath): Promise<Pull> {
  const cache = await NatsCache.open(nc);
  await using store = await LocalStore.open({ dir });
  const receivedBefore = nc.stats().inBytes;
  const ms = await milliseconds(async () => {
    using local = new LocalChunks(store);
    await copyClosure(cache.reusing(local), store, [root], { trustedKeys: [cache.publicKey] });
  });
  return { received: (nc.stats().inBytes - receivedBefore) / MIB, ms };
}

/** Medians of the shares that each run had. */
function shares(runs: readonly Pulls[]): string {
  const median = (of: (run: Pulls) => number) => {
    const sorted = runs.map(of).sort((a, b) => a - b);
    return `${(100 * (sorted[runs.length >> 1] ?? 0)).toFixed(2)} %`;
  };
  const bytes = median(({ first, second }) => second.received / first.received);
  const time = median(({ whole, second }) => second.ms / whole.ms);
  return `${bytes} of the bytes, ${time} of the time of a pull of the same version into an empty store`;
}
