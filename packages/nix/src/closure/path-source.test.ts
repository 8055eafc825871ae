import { describe, expect, it } from 'vitest';
import {
  narHashOf,
  type PathInfo,
  type PathSource,
  queryClosure,
  type StorePath,
  storePathFromBaseName,
} from '../index.ts';

const path = (name: string) => storePathFromBaseName(`${'a'.repeat(32)}-${name}`);

function sourceOf(graph: Record<string, string[]>): PathSource {
  const infos = new Map<StorePath, PathInfo>();
  for (const [name, references] of Object.entries(graph)) {
    const storePath = path(name);
    infos.set(storePath, {
      storePath,
      narHash: narHashOf(Buffer.alloc(32)),
      narSize: 1,
      references: references.map(path),
      signatures: [],
    });
  }
  return {
    name: 'test',
    pathInfo: async (wanted) => infos.get(wanted),
    nar() {
      throw new Error('not asked for');
    },
  };
}

const names = (infos: readonly PathInfo[]) => infos.map((info) => info.storePath.slice(44));

describe('queryClosure()', () => {
  it('lists references first, each path once, itself ignored', async () => {
    const source = sourceOf({
      app: ['app', 'node', 'libc'],
      node: ['libc'],
      libc: ['libc'],
      tool: ['libc'],
      unused: [],
    });
    const sorted = names(await queryClosure(source, [path('app'), path('tool'), path('app')]));
    expect(sorted.toSorted()).toEqual(['app', 'libc', 'node', 'tool']);
    expect(sorted.indexOf('libc')).toBeLessThan(sorted.indexOf('node'));
    expect(sorted.indexOf('node')).toBeLessThan(sorted.indexOf('app'));
  });

  it('asks for the whole closure at once where it can', async () => {
    const walked = sourceOf({ app: ['libc'], libc: [] });
    const infos = await queryClosure(walked, [path('app')]);
    const source = {
      ...walked,
      pathInfo: () => Promise.reject(new Error('asked')),
      closure: async () => infos.toReversed(),
    };
    expect(names(await queryClosure(source, [path('app')]))).toEqual(['libc', 'app']);
  });

  it('copes with long chains of references', async () => {
    const graph = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`p${n}`, n === 0 ? [] : [`p${n - 1}`]]));
    const sorted = names(await queryClosure(sourceOf(graph), [path('p4999')]));
    expect(sorted).toHaveLength(5000);
    expect([sorted[0], sorted.at(-1)]).toEqual(['p0', 'p4999']);
  });

  it('names the missing path, who refers to it, and the source', async () => {
    await expect(queryClosure(sourceOf({ app: ['gone'] }), [path('app')])).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      kind: 'not-found',
      message: `Cannot find "${path('gone')}", which "${path('app')}" refers to: it is not in "test"`,
    });
    await expect(queryClosure(sourceOf({}), [path('app')])).rejects.toThrow(
      `Cannot find "${path('app')}": it is not in "test"`,
    );
  });

  it('refuses references in a circle', async () => {
    const source = sourceOf({ a: ['b'], b: ['c'], c: ['a'] });
    await expect(queryClosure(source, [path('a')])).rejects.toMatchObject({ code: 'NIX_CLOSURE_CYCLE' });
  });

  it('stops when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(queryClosure(sourceOf({ a: [] }), [path('a')], { signal })).rejects.toThrow('enough');
  });
});
