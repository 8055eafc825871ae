import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LocalStore, type StorePath, storePathBaseName, storePathHash } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { type Sample, sample } from './sample-path.ts';

const CHILD = fileURLToPath(new URL('store-child.ts', import.meta.url));
const KILL_AT = fileURLToPath(new URL('kill-at.ts', import.meta.url));
/** More than these by `NEX_CRASHES=…`. */
const KILLS = Number(process.env['NEX_CRASHES'] ?? 100);
/** Random times are up to this many ms: some dozens of imports and a few collections. */
const LONGEST = 200;
/** Calls of a child's life among which the others are killed: opening takes about 30, a first import as many again. */
const CALLS = 400;

/** A closure in three layers, small and large paths. */
async function samples(): Promise<Sample[]> {
  const layers: StorePath[][] = [];
  const all: Sample[] = [];
  for (const layer of [0, 1, 2]) {
    const below = layers[layer - 1] ?? [];
    const made = await Promise.all(
      [0, 1, 2, 3].map((n) => {
        const files = Array.from({ length: 1 + n * 5 }, (_, k) => [`share/${k}/file`, randomBytes(50 + n * 3000)]);
        return sample(`layer-${layer}-${n}`, below.slice(n - 1, n + 1), Object.fromEntries(files));
      }),
    );
    all.push(...made);
    layers.push(made.map(({ info }) => info.storePath));
  }
  return all;
}

/** A child that has everything loaded and waits to be told to begin. */
class Victim {
  readonly #child: ChildProcess;
  readonly #killAt: number | undefined;
  readonly #ended: Promise<unknown>;
  output = '';

  constructor(args: readonly string[], killAt: number | undefined) {
    this.#killAt = killAt;
    const preload = killAt === undefined ? [] : ['--import', KILL_AT];
    this.#child = spawn(process.execPath, ['--conditions=nexsrc', ...preload, CHILD, ...args], {
      env: { ...process.env, NODE_COMPILE_CACHE: join(args[1] ?? '', 'code'), NEX_KILL_AT: String(killAt ?? 0) },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
    this.#ended = once(this.#child, 'close');
  }

  /** Returns when it was killed: by itself at a certain call, or `time` ms after it said a word. */
  async runAndDie({ after = 'opened', time = randomInt(LONGEST) } = {}): Promise<void> {
    this.#child.stdin?.on('error', () => undefined).write('go\n');
    if (this.#killAt === undefined) {
      await this.#says(after);
      await delay(time);
      this.#child.kill('SIGKILL');
    }
    await this.#ended;
    if (this.#child.signalCode !== 'SIGKILL') throw new Error(`It ended by itself:\n${this.output}`);
  }

  async #says(word: string): Promise<void> {
    while (!this.output.includes(word)) {
      await Promise.race([once(this.#child.stdout ?? this.#child, 'data'), this.#ended]);
      const { exitCode, signalCode } = this.#child;
      if (exitCode !== null || signalCode !== null)
        throw new Error(`It ended by itself (${signalCode ?? exitCode}):\n${this.output}`);
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}

/** What each pin may keep by what was printed: a child gives one pin several paths at a time, and which is last is not known. */
function updatePins(pins: Map<string, Set<string>>, output: string): void {
  /** Line numbers of `pinning` and `pinned`. */
  const given = new Map<string, { path: string; begun: number; done: number }[]>();
  const words = [...output.matchAll(/^(pinning|pinned) (\S+) (\S+)$/gm)];
  for (const [line, [, word, name = '', path = '']] of words.entries()) {
    const ofName =
      given.get(name) ?? Array.from(pins.get(name) ?? [''], (before) => ({ path: before, begun: -1, done: -1 }));
    given.set(name, ofName);
    if (word === 'pinning') ofName.push({ path, begun: line, done: Infinity });
    else {
      const pinned = ofName.find((one) => one.path === path && one.done === Infinity);
      if (pinned !== undefined) pinned.done = line;
    }
  }
  for (const [name, ofName] of given) {
    const lastBegun = Math.max(...ofName.filter(({ done }) => done < Infinity).map(({ begun }) => begun));
    const possible = ofName.filter(({ done }) => done >= lastBegun);
    pins.set(name, new Set(possible.map(({ path }) => path)));
  }
}

interface Scene extends AsyncDisposable {
  readonly dir: string;
  start(seed: number, killAt?: number): Victim;
}

async function scene(): Promise<Scene> {
  const folder = await tempDir();
  const dir = join(folder.path, 'store');
  const sampleDir = join(folder.path, 'samples');
  await mkdir(sampleDir);
  const made = await samples();
  await writeFile(join(sampleDir, 'infos.json'), JSON.stringify(made.map(({ info }) => info)));
  for (const { info, nar } of made) await writeFile(join(sampleDir, storePathHash(info.storePath)), nar);
  return {
    dir,
    start: (seed, killAt) => new Victim([dir, sampleDir, String(seed)], killAt),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

it(`LocalStore is whole after each of ${KILLS} times that its user was killed`, { timeout: 180_000 }, async () => {
  await using stage = await scene();
  // By turns after a random time, and at calls spread evenly over the first ones.
  using victims = new DisposableStack();
  const start = (round: number) =>
    victims.use(stage.start(round, round % 2 === 0 ? undefined : 1 + Math.floor((round * CALLS) / KILLS)));
  const pins = new Map<string, Set<string>>();
  let pathsSeen = 0;
  let next = start(0);
  for (let round = 0; round < KILLS; round++) {
    const victim = next;
    const running = victim.runAndDie();
    // While this one runs, the next one loads.
    next = start(round + 1);
    await running;
    const where = `after kill ${round}, ${victim.output}`;
    expect(victim.output, where).not.toMatch(/damaged|failed/);
    updatePins(pins, victim.output);
    const { paths, kept } = await expectWhole(stage.dir, where);
    pathsSeen += paths;
    for (const [name, allowed] of pins) {
      const [path = ''] = kept.get(name) ?? [];
      expect([...allowed], where).toContain(path);
      pins.set(name, new Set([path]));
    }
  }
  // It would prove nothing of a store in which there never is anything.
  expect(pathsSeen).toBeGreaterThan(KILLS);
  expect(pins.size).toBe(3);
});

it('LocalStore serves several processes that import, pin, collect and verify at once and are killed one by one', async () => {
  await using stage = await scene();
  using first = stage.start(1);
  using second = stage.start(2);
  using third = stage.start(3);
  const victims = [first, second, third];
  await Promise.all(victims.map((victim, n) => victim.runAndDie({ after: 'pinned', time: 300 * (n + 1) })));
  for (const { output } of victims) expect(output).not.toMatch(/damaged|failed/);
  await expectWhole(stage.dir, 'in the end');
});

/** Says what there is. */
async function expectWhole(
  dir: string,
  where: string,
): Promise<{ paths: number; kept: Map<string, readonly StorePath[]> }> {
  const damaged: unknown[] = [];
  await using store = await LocalStore.open({ dir, onDamaged: (damage) => void damaged.push(damage) });
  expect(damaged, where).toEqual([]);
  const report = await store.verify();
  expect(report, where).toMatchObject({ damaged: [], unrecorded: [] });
  // The store's own session and its lock.
  expect(await readdir(join(dir, 'tmp')), where).toHaveLength(2);
  const names = await readdir(join(dir, 'nix/store'));
  expect(names, where).toHaveLength(report.checkedPaths);
  const kept = await store.pins();
  const closure = await store.closure([...kept.values()].flat());
  for (const info of closure) expect(names, where).toContain(storePathBaseName(info.storePath));
  return { paths: report.checkedPaths, kept };
}
