import { join } from 'node:path';
import { narHashOf, type StorePath } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { chunkIdOf } from './chunk-id.ts';
import { ChunkIndex } from './chunk-index.ts';
import type { Manifest } from '../manifests/manifest.ts';
import { encodeMentions } from '../manifests/mentions.ts';

const chunkOf = (i: number) => ({ id: chunkIdOf(Buffer.from([i])), size: 100 + i });
const pathOf = (i: number) => `/nix/store/${String(i).padStart(32, '0')}-x` as StorePath;

function manifestOf(...chunks: number[]): Manifest {
  const refs = chunks.map(chunkOf);
  return {
    narHash: narHashOf(new Uint8Array(32)),
    narSize: refs.reduce((sum, { size }) => sum + size, 0),
    chunks: refs,
  };
}

describe('ChunkIndex', () => {
  it('knows where chunks are, those of the last path first, also when it is opened again', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'index');
    {
      using index = new ChunkIndex(file, () => true);
      index.add(pathOf(1), manifestOf(1, 2, 3, 2));
      index.add(pathOf(2), manifestOf(3, 4));
    }
    using index = new ChunkIndex(file, () => true);
    const places = (i: number) => index.places(chunkOf(i).id).map(({ path, start }) => [path, start]);
    expect(places(2)).toEqual([[pathOf(1), 101]]);
    expect(places(3)).toEqual([
      [pathOf(2), 0],
      [pathOf(1), 203],
    ]);
    expect(places(5)).toEqual([]);
  });

  it('gives back the mentions of a path', async () => {
    await using dir = await tempDir();
    using index = new ChunkIndex(join(dir.path, 'index'), () => true);
    const mentions = encodeMentions([
      { start: 3, hash: 'b'.repeat(32) },
      { start: 60, hash: 'a'.repeat(32) },
    ]);
    index.add(pathOf(1), { ...manifestOf(1), mentions });
    index.add(pathOf(2), manifestOf(2));
    const ofChunk = (i: number) => index.mentions(index.places(chunkOf(i).id)[0]?.id ?? 0);
    expect(ofChunk(1)).toEqual({ narSize: 101, mentions });
    expect(ofChunk(2)).toEqual({ narSize: 102, mentions: undefined });
    expect(index.mentions(99)).toBeUndefined();
  });

  it('has the last content of a path only', async () => {
    await using dir = await tempDir();
    using index = new ChunkIndex(join(dir.path, 'index'), () => true);
    index.add(pathOf(1), manifestOf(1, 2));
    index.add(pathOf(1), manifestOf(2, 3));
    expect(index.places(chunkOf(1).id)).toEqual([]);
    expect(index.places(chunkOf(2).id)).toMatchObject([{ path: pathOf(1), start: 0 }]);
  });

  it('stays within its bounds: what is gone is forgotten first, then what is oldest', async () => {
    await using dir = await tempDir();
    const gone = new Set<StorePath>();
    using index = new ChunkIndex(join(dir.path, 'index'), (path) => !gone.has(path), { maxChunks: 8 });
    const known = () => Array.from({ length: 12 }, (_, i) => i).filter((i) => index.places(chunkOf(i).id).length > 0);
    for (const i of [0, 1, 2, 3]) index.add(pathOf(i), manifestOf(2 * i, 2 * i + 1));
    expect(known()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    gone.add(pathOf(1)).add(pathOf(2));
    index.add(pathOf(4), manifestOf(8, 9));
    expect(known()).toEqual([0, 1, 6, 7, 8, 9]);
    index.add(pathOf(5), manifestOf(10));
    index.add(pathOf(6), manifestOf(11, 5));
    expect(known()).toEqual([5, 8, 9, 10, 11]);
  });
});
