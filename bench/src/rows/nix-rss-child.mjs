// Plain JavaScript, which takes the built package: what turns TypeScript into JavaScript at run time takes 30 MiB.
// Moves a NAR and prints the most MiB that this process had before and in all.
//   copy FILE TARGET          a file as a NAR to another file
//   pull URL STORE-PATH DIR   a store path of a binary cache into the store in DIR
// What it made is removed again.
import { readFile, rm } from 'node:fs/promises';
import { copyClosure, dumpNar, LocalStore, openBinaryCache, parseStorePath, unpackNar } from '@nex-nix/nix';

const [command, from = '', ...to] = process.argv.slice(2);

async function mostMemory() {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  return Number(kibibytes) / 1024;
}

async function move() {
  if (command === 'copy') {
    const [target = ''] = to;
    await unpackNar(dumpNar(from, { reuseChunks: true }), target);
    return target;
  }
  const [path = '', dir = ''] = to;
  const store = await LocalStore.open({ dir });
  await copyClosure(openBinaryCache(from), store, [parseStorePath(path)], { trustedKeys: [] });
  await store[Symbol.asyncDispose]();
  return dir;
}

const before = await mostMemory();
const made = await move();
process.stdout.write(`${before} ${await mostMemory()}\n`);
await rm(made, { recursive: true });
