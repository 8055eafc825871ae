/** Uses one local store in every way at once until it is killed; begins when it is told to. Prints what it pins. */
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { LocalStore, type PathInfo, type StorePath, storePathHash } from '@nex-nix/nix';

const [dir = '', samples = '', seed = '0'] = process.argv.slice(2);
const infos = JSON.parse(readFileSync(join(samples, 'infos.json'), 'utf8')) as PathInfo[];
const infoOf = new Map(infos.map((info) => [info.storePath, info]));
const nars = new Map(infos.map(({ storePath }) => [storePath, readNar(storePath)]));
const total = infos.reduce((sum, { narSize }) => sum + narSize, 0);

let state = Number(seed) + 1;
/** The same numbers for the same seed. */
function random(below: number): number {
  state = (state * 48_271) % 2_147_483_647;
  return state % below;
}

function readNar(path: StorePath): Buffer {
  return readFileSync(join(samples, storePathHash(path)));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function* slowly(path: StorePath): AsyncGenerator<Uint8Array, void> {
  const nar = nars.get(path) ?? Buffer.alloc(0);
  for (let at = 0; at < nar.length; at += 4000) {
    yield nar.subarray(at, at + 4000);
    await setImmediate();
  }
}

/** References first. */
function closureOf(path: StorePath): StorePath[] {
  const references = infoOf.get(path)?.references ?? [];
  return [...new Set([...references.flatMap(closureOf), path])];
}

/** Everything at once: a path is recorded when those it refers to are. */
async function importClosure(store: LocalStore, root: StorePath): Promise<void> {
  const added = new Map<StorePath, Promise<unknown>>();
  for (const path of closureOf(root)) {
    const info = infoOf.get(path);
    if (info === undefined) throw new Error(`no sample ${path}`);
    const references = Promise.all(info.references.map(async (reference) => added.get(reference)));
    added.set(path, store.add(info, slowly(path), { references }));
  }
  await Promise.all(added.values());
}

async function importAndPin(store: LocalStore): Promise<void> {
  const root = infos[random(infos.length)]?.storePath;
  if (root === undefined) return;
  using _hold = store.hold(closureOf(root));
  await importClosure(store, root);
  if (random(3) > 0) return;
  const name = String(random(3));
  say(`pinning ${name} ${root}`);
  await store.pin(name, [root]);
  say(`pinned ${name} ${root}`);
}

async function importForEver(store: LocalStore): Promise<never> {
  for (;;) await importAndPin(store);
}

async function tidyForEver(store: LocalStore): Promise<never> {
  for (;;) {
    await store.collectGarbage({ maxBytes: random(total) });
    const { damaged } = await store.verify();
    if (damaged.length > 0) say(`damaged ${JSON.stringify(damaged)}`);
    await setImmediate();
  }
}

// It will have no other occasion.
flushCompileCache();
say('loaded');
process.stdin.once('data', () => void run());

async function run(): Promise<void> {
  try {
    const store = await LocalStore.open({ dir, onDamaged: (damage) => say(`damaged ${JSON.stringify(damage)}`) });
    say('opened');
    await Promise.all([importForEver(store), importForEver(store), importForEver(store), tidyForEver(store)]);
  } catch (error) {
    say(`failed ${String(error)}`);
    throw error;
  }
}
