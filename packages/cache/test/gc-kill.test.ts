import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { jetstreamManager } from '@nats-io/jetstream';
import { narHashOf, type StorePath } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { noise, startCache, type TestCache } from './fixture.ts';

vi.setConfig({ testTimeout: 110_000 });

/** What a collector may be about when it dies, as its messages show it; and how often it does that at least in one collection. */
const STAGES: readonly (readonly [pattern: string, times: number])[] = [
  ['^\\$KV\\.nix_care\\.collector ', 1],
  ['^\\$JS\\.API\\.CONSUMER\\.', 2],
  ['^\\$JS\\.API\\.STREAM\\.MSG\\.GET\\.', 20],
  ['"state":"announced"', 3],
  ['"state":"deleting"', 3],
  ['^\\$KV\\.nix_narinfo\\.', 2],
  ['^\\$JS\\.API\\.STREAM\\.MSG\\.DELETE\\.NIX_NARS', 2],
  ['^nixcx\\.del', 1],
  ['^\\$JS\\.API\\.STREAM\\.MSG\\.DELETE\\.NIX_CHUNKS', 6],
  ['^\\$JS\\.API\\.STREAM\\.INFO\\.', 5],
  ['"state":"idle"', 3],
  ['^\\$JS\\.API\\.STREAM\\.MSG\\.DELETE\\.KV_nix_care', 1],
];
/** Caches in which it is tried at once: the next collector waits for seconds until it takes over. */
const BEDS = 6;
const seed = Number(process.env['NEX_TEST_SEED'] ?? Date.now() % 1_000_000);

/** The same numbers from 0 to 1 for the same seed. */
function random(from: number): () => number {
  const bytes = noise(4096, from % 251);
  let at = (from * 4) % 2048;
  return () => bytes.readUInt32LE((at = (at + 4) % 4092)) / 2 ** 32;
}

interface KillPoint {
  readonly pattern: string;
  readonly count: number;
  readonly moment: string;
}

/** Every stage before and after its message, in an order and at times that the seed decides; dealt out to the beds. */
function killPoints(): KillPoint[][] {
  const next = random(seed);
  const points = STAGES.flatMap(([pattern, times]) =>
    ['before', 'after'].map((moment) => ({ pattern, count: 1 + Math.floor(next() * times), moment, order: next() })),
  ).sort((a, b) => a.order - b.order);
  return Array.from({ length: BEDS }, (_, bed) => points.filter((_, i) => i % BEDS === bed));
}

const SCRIPT = fileURLToPath(new URL('collector-process.ts', import.meta.url));

async function startCollector(test: TestCache, { pattern, count, moment }: KillPoint): Promise<ChildProcess> {
  const args = ['--conditions', 'nexsrc', SCRIPT, test.server.url, pattern, String(count), moment];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(createInterface(child.stdout), 'line');
  return child;
}

/** Reads all content of paths, verified. */
async function pull({ cache }: TestCache, paths: readonly StorePath[]): Promise<void> {
  for (const info of await cache.closure(paths)) {
    const hash = createHash('sha256');
    for await (const bytes of cache.nar(info)) hash.update(bytes);
    expect(narHashOf(hash.digest())).toBe(info.narHash);
  }
}

/** @returns how many collectors were killed. */
async function killCollectors(bed: number, points: readonly KillPoint[]): Promise<number> {
  await using test = await startCache();
  const { cache, source } = test;
  const shared = noise(200_000, bed);
  const pinned: StorePath[] = [];
  let killed = 0;
  const push = async (name: string, size: number) => {
    const content = noise(size);
    content.write(`${bed} ${name}`);
    const info = await source.add(name, { 'shared.bin': shared, 'own.bin': content });
    await cache.push(source, [info.storePath]);
    return info.storePath;
  };
  for (const [i, point] of points.entries()) {
    const child = await startCollector(test, point);
    try {
      const exited = once(child, 'exit');
      const kept = await push(`kept-${i}`, 100_000);
      await cache.pin(`kept-${i}`, kept);
      pinned.push(kept);
      for (const name of ['a', 'b']) await push(`garbage-${i}-${name}`, 400_000);
      child.stdin?.write('go\n');
      await Promise.all([push(`beside-${i}`, 100_000), pull(test, pinned)]);
      const [, signal] = (await exited) as [number | null, string | null];
      if (signal === 'SIGKILL') killed++;
    } finally {
      child.kill('SIGKILL');
    }
    // The next collector is told that this one is gone: otherwise it would wait for five seconds to be sure.
    await (await jetstreamManager(test.nc)).streams.purge('KV_nix_care', { filter: '$KV.nix_care.collector' });
  }
  expect(await cache.verify()).toMatchObject({ damaged: [], broken: [] });
  await cache.collectGarbage({ olderThan: 0, grace: 0 });
  expect(await cache.collectGarbage({ olderThan: 0, grace: 0 })).toMatchObject({ paths: 0, manifests: 0, chunks: 0 });
  const { checkedChunks, ...found } = await cache.verify();
  expect(found).toEqual({ checkedPaths: pinned.length, damaged: [], broken: [] });
  expect(await cache.stat()).toMatchObject({ chunks: checkedChunks, manifests: pinned.length, paths: pinned.length });
  await pull(test, pinned);
  return killed;
}

describeWith(['nats-server'], 'collectors that are killed', () => {
  it(`at every stage leave what is listed whole, and garbage to the next one (NEX_TEST_SEED=${seed})`, async () => {
    const killed = await Promise.all(killPoints().map((points, bed) => killCollectors(bed, points)));
    expect(killed.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(20);
  });
});
