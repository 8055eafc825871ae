/** Copies `argv[2]` as a NAR to `argv[3]`, removes that, and prints the most MiB this process had before and in all. */
import { readFile, rm } from 'node:fs/promises';
import { dumpNar, unpackNar } from '@nex-nix/nix';

const [source = '', target = ''] = process.argv.slice(2);

async function mostMemory(): Promise<number> {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  return Number(kibibytes) / 1024;
}

const before = await mostMemory();
await unpackNar(dumpNar(source, { reuseChunks: true }), target);
process.stdout.write(`${before} ${await mostMemory()}\n`);
await rm(target);
