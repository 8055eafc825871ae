import { join } from 'node:path';
import type { StorePath } from '@nex-nix/nix';
import { describeEachNix } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { noise } from './fixture.ts';
import { newStorePath, type NixMachine, nixMachine, startDoor } from './http-fixture.ts';

const TIMEOUT = 120_000;
const KIB = 1024;

/** One build of a library and an application of 2 MiB each: the same but for the hashes, with a mention every 256 KiB. */
async function build(machine: NixMachine): Promise<{ lib: StorePath; app: StorePath }> {
  const self = newStorePath('lib-1.0');
  const lib = await machine.add('lib-1.0', { 'lib/so': withMentions([self], 3) }, [self], self);
  const app = await machine.add('app-1.0', { 'bin/app': withMentions([lib], 4) }, [lib]);
  return { lib, app };
}

function withMentions(paths: readonly StorePath[], seed: number): Buffer {
  const content = noise(2048 * KIB, seed);
  for (let at = 100 * KIB; at < content.length; at += 256 * KIB) {
    content.write(`${paths[at % paths.length]}/lib/so`, at);
  }
  return content;
}

describeEachNix('uploads without store hashes', (nix) => {
  it.each(['zstd', 'none'])(
    'makes a rebuild add next to nothing, and gives back every byte (%s)',
    async (compression) => {
      const added = async (normaliseUploads: boolean) => {
        await using opened = await startDoor({ normaliseUploads });
        const { test, door } = opened;
        await using builder = await nixMachine(nix);
        const stored: number[] = [];
        for (let generation = 0; generation < 2; generation++) {
          const { lib, app } = await build(builder);
          const url = `${door.url}?compression=${compression}`;
          await builder.nix('--store', builder.store, 'copy', '--to', url, app);
          stored.push((await test.cache.stat()).storedBytes);
          await using reader = await nixMachine(nix);
          const keys = ['--option', 'trusted-public-keys', opened.publicKey];
          await reader.nix('--store', reader.store, 'copy', ...keys, '--from', door.url, '--to', reader.store, app);
          await reader.nix('--store', reader.store, 'store', 'verify', '--no-trust', app, lib);
          // By the names of the uploads, which the builder remembers.
          const empty = `local?root=${join(builder.dir, `empty-${generation}`)}`;
          await builder.nix('--store', empty, 'copy', '--no-check-sigs', '--from', url, '--to', empty, app);
          await builder.nix('--store', empty, 'store', 'verify', '--no-trust', app, lib);
        }
        const [first = 0, second = 0] = stored;
        return (second - first) / first;
      };
      if (compression === 'zstd') expect(await added(false)).toBeGreaterThan(0.5);
      expect(await added(true)).toBeLessThan(0.01);
    },
    TIMEOUT,
  );

  it(
    'has the same content as a push of our own',
    async () => {
      await using opened = await startDoor({ normaliseUploads: true });
      const { test, door } = opened;
      await using builder = await nixMachine(nix);
      const first = await build(builder);
      const second = await build(builder);
      await builder.nix('--store', builder.store, 'copy', '--to', `${door.url}?compression=zstd`, first.app);
      expect(await test.cache.push(builder.source, [second.app])).toMatchObject({
        paths: { pushed: 2 },
        chunks: { sent: 0 },
      });
    },
    TIMEOUT,
  );
});
