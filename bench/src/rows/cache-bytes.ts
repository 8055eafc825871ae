import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import {
  encodeNixBase32,
  narHashOf,
  narOf,
  type NarTree,
  type PathInfo,
  type PathSource,
  type StorePath,
  storePathFromBaseName,
} from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { type ChunkSizes, cutChunks } from '../../../packages/cache/src/chunks/fastcdc.ts';
import type { Measurement, Row } from '../row.ts';
import { startCache } from './cache-process.ts';
import { content, LIBRARIES, milliseconds } from './nix-closure.ts';

const RUNS = 3;
const KIB = 1024;
const MIB = 1024 * KIB;
const APP_SIZE = 8 * MIB;
const PEER = 'push of the first version into an empty cache';

export const delta: Row = {
  id: 'cache.delta.bytes',
  what: 'bytes that leave the machine for the second version of a closure of 100 MiB, one line changed in the application of 8 MiB',
  unit: 'MiB',
  peer: PEER,
  wanted: 0.02,
  async measure(): Promise<Measurement> {
    const { first, second } = await pushBoth([{ hashes: '1' }, { hashes: '1', appChange: CHANGED_LINE }]);
    const below = await pushBoth([{ hashes: '1' }, { hashes: '2', libraryChange: CHANGED_LINE }]);
    return {
      values: [second.sent],
      peerValues: [first.sent],
      notes: [`  the line in the library that all others refer to: ${percent(below.second.sent / below.first.sent)}`],
    };
  },
};

export const deltaTime: Row = {
  id: 'cache.delta.time',
  what: 'time of that push',
  unit: 'ms',
  peer: PEER,
  wanted: 0.3,
  async measure(): Promise<Measurement> {
    const values: number[] = [];
    const peerValues: number[] = [];
    for (let i = 0; i < RUNS; i++) {
      const { first, second } = await pushBoth([{ hashes: '1' }, { hashes: '1', appChange: CHANGED_LINE }]);
      values.push(second.ms);
      peerValues.push(first.ms);
    }
    return { values, peerValues };
  },
};

export const rebuild: Row = {
  id: 'cache.rebuild.bytes',
  what: 'bytes that leave the machine when every hash of the closure has changed and nothing else; a mention a MiB and file',
  unit: 'MiB',
  peer: PEER,
  wanted: 0.02,
  async measure(): Promise<Measurement> {
    const generations = [{ hashes: '1' }, { hashes: '2' }] as const;
    const { first, second } = await pushBoth(generations);
    const plain = await pushBoth(generations, { normalise: false });
    const attic = await plainShare(generations, { min: 16 * KIB, average: 64 * KIB, max: 256 * KIB });
    return {
      values: [second.sent],
      peerValues: [first.sent],
      notes: [
        `  without normalisation: ${percent(plain.second.sent / plain.first.sent)}`,
        `  plain FastCDC at 16/64/256 KiB: ${percent(attic)}`,
      ],
    };
  },
};

/** What differs between two versions of the closure. */
export interface Generation {
  /** Goes into every hash. */
  readonly hashes: string;
  readonly appChange?: Buffer;
  readonly libraryChange?: Buffer;
}

/** What a path of the closure is made of. */
interface Contents {
  readonly hashes: string;
  readonly references: readonly StorePath[];
  readonly files: readonly Buffer[];
  /** Comes into the first of them. */
  readonly change: Buffer | undefined;
}

export const CHANGED_LINE = Buffer.from('a line that was not there before\n');

/** Pushes two versions one after the other into an empty cache. */
async function pushBoth(
  [before, after]: readonly [Generation, Generation],
  options: { normalise?: boolean } = {},
): Promise<Record<'first' | 'second', { ms: number; sent: number }>> {
  await using dir = await tempDir('nex-bench-');
  await using cache = await startCache(dir.path);
  const push = async (generation: Generation) => {
    const source = await Closure.make(generation);
    const sentBefore = cache.nc.stats().outBytes;
    const ms = await milliseconds(() => cache.client.push(source, [source.root], options));
    return { ms, sent: (cache.nc.stats().outBytes - sentBefore) / MIB };
  };
  return { first: await push(before), second: await push(after) };
}

/** The share of new bytes in the second version when both are only cut, by these sizes, and each chunk is compressed. */
async function plainShare([before, after]: readonly [Generation, Generation], sizes: ChunkSizes): Promise<number> {
  const known = new Set<string>();
  const newBytes = async (generation: Generation) => {
    const source = await Closure.make(generation);
    let size = 0;
    for (const info of await source.closure()) {
      for await (const bytes of cutChunks(source.nar(info), sizes)) {
        const id = createHash('sha256').update(bytes).digest('base64');
        if (!known.has(id)) size += zstdCompressSync(bytes).length;
        known.add(id);
      }
    }
    return size;
  };
  const first = await newBytes(before);
  return (await newBytes(after)) / first;
}

/** A closure like that of `makeClosure()`, in memory: each file begins with the paths that its path refers to, and has them each MiB. */
export class Closure implements PathSource {
  readonly name = 'memory';
  readonly #paths = new Map<StorePath, { readonly info: PathInfo; readonly tree: NarTree }>();
  #root: StorePath | undefined;

  static async make(generation: Generation): Promise<Closure> {
    const closure = new Closure();
    const libraries: StorePath[] = [];
    for (const [index, sizes] of LIBRARIES.entries()) {
      const files = sizes.map((size, i) => content(Math.round(size * MIB), 1000 * index + i));
      const change = index === 0 ? generation.libraryChange : undefined;
      const references = [...new Set([...libraries.slice(0, 1), ...libraries.slice(-1)])];
      libraries.push(
        await closure.#add(`bench-library-${index}-1.0`, { hashes: generation.hashes, references, files, change }),
      );
    }
    const files = [content(APP_SIZE, 77_777)];
    const change = generation.appChange;
    // A changed application has another hash, as it would from a build.
    const hashes = `${generation.hashes}${change === undefined ? '' : ' changed'}`;
    closure.#root = await closure.#add('bench-app-1', { hashes, references: libraries, files, change });
    return closure;
  }

  get root(): StorePath {
    if (this.#root === undefined) throw new Error('The closure has no root yet');
    return this.#root;
  }

  async pathInfo(path: StorePath): Promise<PathInfo | undefined> {
    return this.#paths.get(path)?.info;
  }

  async closure(): Promise<PathInfo[]> {
    return [...this.#paths.values()].map(({ info }) => info);
  }

  nar({ storePath }: PathInfo): AsyncIterable<Uint8Array> {
    const found = this.#paths.get(storePath);
    if (found === undefined) throw new Error(`No "${storePath}"`);
    return narOf(found.tree);
  }

  async #add(name: string, { hashes, references, files, change }: Contents): Promise<StorePath> {
    const hash = createHash('sha256').update(`${name} ${hashes}`).digest().subarray(0, 20);
    const storePath = storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`);
    // In the order in which they were made, as a build writes them: sorted by hash they would change places.
    const mentions = Buffer.from(`${[storePath, ...references].join(':')}\n`);
    const entries = files.map((file, i): [string, NarTree] => {
      for (let at = 0; at + mentions.length <= file.length; at += MIB) file.set(mentions, at);
      const contents = i > 0 || change === undefined ? file : withChange(file, change);
      return [`file-${i}`, { type: 'regular', contents }];
    });
    const tree: NarTree = { type: 'directory', entries };
    const digest = createHash('sha256');
    let narSize = 0;
    for await (const bytes of narOf(tree)) {
      digest.update(bytes);
      narSize += bytes.length;
    }
    const narHash = narHashOf(digest.digest());
    const info = { storePath, narHash, narSize, references: [...references].sort(), signatures: [] };
    this.#paths.set(storePath, { info, tree });
    return storePath;
  }
}

/** `file` with `change` in the middle. */
function withChange(file: Buffer, change: Buffer): Buffer {
  const middle = Math.floor(file.length / 2);
  return Buffer.concat([file.subarray(0, middle), change, file.subarray(middle)]);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
