import { createHash } from 'node:crypto';
import { CacheService, NatsCache } from '@nex-nix/cache';
import {
  encodeNixBase32,
  generateSecretKey,
  narHashOf,
  narOf,
  type PathInfo,
  type PathSource,
  type StorePath,
  storePathFromBaseName,
} from '@nex-nix/nix';
import { startNatsServer } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';
import { milliseconds } from './nix-closure.ts';

const MANY = 10_000;
const FEW = 1_000;
/** Of pushes there is one, since it takes a minute. */
const CLOSURES = 5;

const push: Row = {
  id: 'cache.many.push',
  what: `a closure of ${MANY} small store paths into an empty cache, its service in the same process`,
  unit: 'ms',
  peer: `${MANY / FEW} times the push of ${FEW} such paths`,
  wanted: 1.3,
  async measure(): Promise<Measurement> {
    const [many, few] = [await smallPaths(MANY), await smallPaths(FEW)];
    const peerValue = (MANY / FEW) * (await timedPush(few));
    const value = await timedPush(many);
    return { values: [value], peerValues: [peerValue], notes: [`  ${Math.round((MANY * 1000) / value)} paths/s`] };
  },
};

const closure: Row = {
  id: 'cache.many.closure',
  what: `the closure of ${MANY} small store paths, asked for in one request`,
  unit: 'ms',
  peer: `${MANY / FEW} times that of ${FEW} such paths`,
  wanted: 1.3,
  async measure(): Promise<Measurement> {
    await using cache = await startCache();
    const sources = [await smallPaths(FEW), await smallPaths(MANY)] as const;
    for (const source of sources) await cache.client.push(source, [source.root]);
    const [few, many] = sources;
    const values: number[] = [];
    const peerValues: number[] = [];
    for (let i = 0; i < CLOSURES; i++) {
      peerValues.push((MANY / FEW) * (await timedClosure(cache.client, few)));
      values.push(await timedClosure(cache.client, many));
    }
    return { values, peerValues };
  },
};

async function timedPush(source: SmallPaths): Promise<number> {
  await using cache = await startCache();
  return await milliseconds(async () => {
    await cache.client.push(source, [source.root]);
  });
}

async function timedClosure(client: NatsCache, { root, size }: SmallPaths): Promise<number> {
  return milliseconds(async () => {
    const infos = await client.closure([root]);
    if (infos.length !== size) throw new Error(`The closure has ${infos.length} paths, not ${size}`);
  });
}

interface SmallPaths extends PathSource {
  readonly root: StorePath;
  readonly size: number;
}

/** A closure in memory: every path a file of about 200 bytes that refers to two earlier paths, the last one to all. */
async function smallPaths(size: number): Promise<SmallPaths> {
  const infos = new Map<StorePath, PathInfo>();
  const nars = new Map<StorePath, Uint8Array>();
  const paths: StorePath[] = [];
  for (let i = 0; i < size; i++) {
    const digest = createHash('sha256').update(`${i} of ${size}`).digest();
    const storePath = storePathFromBaseName(`${encodeNixBase32(digest.subarray(0, 20))}-small-${i}`);
    const contents = digest.toString('hex').repeat(3);
    const nar = Buffer.concat(await Array.fromAsync(narOf({ type: 'regular', contents })));
    const narHash = narHashOf(createHash('sha256').update(nar).digest());
    const references = i === size - 1 ? [...paths] : [paths[i - 1], paths[i >> 1]].filter((path) => path !== undefined);
    infos.set(storePath, { storePath, narHash, narSize: nar.length, references, signatures: [] });
    nars.set(storePath, nar);
    paths.push(storePath);
  }
  const [root] = paths.slice(-1);
  if (root === undefined) throw new RangeError('A closure has at least one path');
  return {
    name: `${size} small paths`,
    root,
    size,
    pathInfo: async (path) => infos.get(path),
    async *nar({ storePath }) {
      yield nars.get(storePath) ?? new Uint8Array();
    },
  };
}

interface BenchCache extends AsyncDisposable {
  readonly client: NatsCache;
}

async function startCache(): Promise<BenchCache> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer());
  const secretKey = generateSecretKey('bench-1');
  stack.use(await CacheService.start(await server.connect({ noAsyncTraces: true }), { secretKey }));
  const client = await NatsCache.open(await server.connect({ noAsyncTraces: true }));
  const owned = stack.move();
  return { client, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export const cacheManyRows: readonly Row[] = [push, closure];
