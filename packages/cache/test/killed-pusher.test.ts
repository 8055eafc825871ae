import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { copyClosure, LocalStore, type StorePath } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { chunkIds } from './damage-tools.ts';
import { startCache, type TestCache } from './fixture.ts';
import { addRound } from './push-round.ts';

vi.setConfig({ testTimeout: 180_000 });

const ROUNDS = 8;
/** Longer than a push takes here: some end before they are killed. */
const LONGEST_MS = 300;

/** Numbers from 0 to 1 that look random, the same for the same seed: a linear congruential generator. */
function* random(seed: number): Generator<number, never> {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

interface Pusher extends Disposable {
  /** Lets it begin, and kills it after so many ms, or when it is done. */
  killAfter(ms: number): Promise<'killed' | 'done'>;
}

/** @param folder - where it keeps what it pushes: who is killed does not clean up. */
async function startPusher(url: string, folder: string, round: number): Promise<Pusher> {
  const script = fileURLToPath(new URL('push-process.ts', import.meta.url));
  const args = ['--conditions', 'nexsrc', script, url, String(round)];
  const env = { ...process.env, TMPDIR: folder };
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
  const ended = once(child, 'exit');
  await Promise.race([once(child.stdout, 'data'), ended]);
  return {
    async killAfter(ms) {
      child.stdin.write('go\n');
      await Promise.race([delay(ms), ended]);
      child.kill('SIGKILL');
      const [, signal] = (await ended) as [number | null, NodeJS.Signals | null];
      return signal === null ? 'done' : 'killed';
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

/** Pulls what is listed of a round, and verifies it. @returns how much that is. */
async function expectListedWhole({ cache }: TestCache, round: readonly StorePath[]): Promise<number> {
  const listed: StorePath[] = [];
  for await (const { storePath } of cache.list()) if (round.includes(storePath)) listed.push(storePath);
  await using dir = await tempDir();
  await using store = await LocalStore.open({ dir: dir.path });
  await copyClosure(cache, store, listed, { trustedKeys: [cache.publicKey] });
  for (const path of listed) expect(await store.has(path)).toBe(true);
  return listed.length;
}

describeWith(['nats-server'], 'a pusher that is killed', () => {
  it(`at ${ROUNDS} random points: what is listed is whole, the next push completes it, a collection takes the rest`, async ({
    annotate,
  }) => {
    const seed = Number(process.env['NEX_TEST_SEED'] ?? Date.now() % 2 ** 32);
    await annotate(`NEX_TEST_SEED=${seed}`);
    await using test = await startCache();
    const numbers = random(seed);
    const points: string[] = [];
    await using folder = await tempDir();
    using pushers = new DisposableStack();
    const start = async (round: number) => pushers.use(await startPusher(test.server.url, folder.path, round));
    let next = start(0);
    for (let round = 0; round < ROUNDS; round++) {
      const ms = Math.round(LONGEST_MS * numbers.next().value);
      const end = await (await next).killAfter(ms);
      // It starts while this one is looked at.
      if (round + 1 < ROUNDS) next = start(round + 1);
      const infos = Object.values(await addRound(test.source, round));
      const paths = infos.map(({ storePath }) => storePath);
      const listed = await expectListedWhole(test, paths);
      points.push(`${ms} ms: ${end}, ${listed} listed`);
      if (end === 'done') expect(listed).toBe(3);
      const { paths: pushed } = await test.cache.push(test.source, paths);
      expect(pushed).toMatchObject({ present: listed, pushed: 3 - listed });
      expect(await expectListedWhole(test, paths)).toBe(3);
    }
    await annotate(points.join('\n'));
    expect(points.some((point) => point.includes('killed'))).toBe(true);

    await test.cache.collectGarbage({ grace: 0 });
    const { checkedChunks, checkedPaths, damaged, broken } = await test.cache.verify();
    expect({ checkedPaths, damaged, broken }).toEqual({ checkedPaths: 3 * ROUNDS, damaged: [], broken: [] });
    expect(await chunkIds(test.nc)).toHaveLength(checkedChunks);
    expect((await test.cache.stat()).manifests).toBe(3 * ROUNDS);
  });
});
