import { describe, expect, it } from 'vitest';
import { type ChunkId, chunkIdOf } from './chunk-id.ts';
import { SharedChunks } from './shared-chunks.ts';

const MIB = 1024 * 1024;
const ids = Array.from({ length: 40 }, (_, i) => chunkIdOf(Buffer.from([i])));
const [first, second] = ids as [ChunkId, ChunkId];

describe('SharedChunks', () => {
  it('fetches what is asked for at once or again only once, and what is not shared each time', async () => {
    const shared = new SharedChunks((id) => id === first);
    let fetched = 0;
    const fetch = async () => Buffer.from([fetched++]);
    const both = await Promise.all([shared.get(first, fetch), shared.get(first, fetch)]);
    const kept = { bytes: Buffer.from([0]), isOwn: false };
    expect([...both, await shared.get(first, fetch)]).toEqual([kept, kept, kept]);
    expect(await shared.get(second, fetch)).toEqual({ bytes: Buffer.from([1]), isOwn: true });
    expect(await shared.get(second, fetch)).toEqual({ bytes: Buffer.from([2]), isOwn: true });
  });

  it('lets no one fail for another', async () => {
    const shared = new SharedChunks(() => true);
    const failing = shared.get(first, async () => Promise.reject(new Error('given up')));
    const waiting = shared.get(first, async () => Buffer.from('here'));
    await expect(failing).rejects.toThrow('given up');
    expect(await waiting).toEqual({ bytes: Buffer.from('here'), isOwn: true });
  });

  it('forgets what was not used for longest', async () => {
    const shared = new SharedChunks(() => true);
    const fetched: string[] = [];
    const get = (id: ChunkId) =>
      shared.get(id, async () => {
        fetched.push(id);
        return Buffer.alloc(MIB);
      });
    for (const id of ids.slice(0, 32)) await get(id);
    await get(ids[0] as ChunkId);
    for (const id of ids.slice(32)) await get(id);
    fetched.length = 0;
    await get(ids[0] as ChunkId);
    await get(ids[39] as ChunkId);
    expect(fetched).toEqual([]);
    await get(ids[1] as ChunkId);
    expect(fetched).toEqual([ids[1]]);
  });
});
