import { describe, expect, it } from 'vitest';
import { DeferredJob } from './deferred-job.ts';
import { ThreadPool, type ThreadWork } from './thread-pool.ts';

/** Says where it was asked, and what came before. */
function rememberAll(first: string): ThreadWork<{ readonly word: string }> {
  const { isMainThread } = process.getBuiltinModule('node:worker_threads');
  const words = [first];
  return {
    handle({ word }, answer) {
      words.push(word);
      answer({ isHere: isMainThread, words: words.join(' ') }, []);
    },
    end() {},
  };
}

interface Memory {
  readonly isHere: boolean;
  readonly words: string;
}

const newJob = (pool = new ThreadPool(1, rememberAll)) => new DeferredJob(pool, 'zero');

describe('DeferredJob', () => {
  it('does a small job here, when nothing more comes', async () => {
    using job = newJob();
    const asked = ['one', 'two'].map((word) => job.ask<Memory>({ word }));
    job.finish();
    expect(await Promise.all(asked)).toEqual([
      { isHere: true, words: 'zero one' },
      { isHere: true, words: 'zero one two' },
    ]);
  });

  it('hands a large job over by itself, and any when told to', async () => {
    const pool = new ThreadPool(1, rememberAll);
    using large = newJob(pool);
    const asked = Array.from({ length: 12 }, (_, n) => large.ask<Memory>({ word: `${n}` }));
    expect(await asked.at(-1)).toEqual({ isHere: false, words: 'zero 0 1 2 3 4 5 6 7 8 9 10 11' });
    using heavy = newJob(pool);
    heavy.begin();
    const one = heavy.ask<Memory>({ word: 'one' });
    heavy.finish();
    expect(await one).toEqual({ isHere: false, words: 'zero one' });
  });

  it('tells whoever waits for what is kept that it was given up', async () => {
    const job = newJob();
    const kept = job.ask({ word: 'one' });
    job.abandon();
    await expect(kept).rejects.toThrow('The work was given up');
    job[Symbol.dispose]();
  });
});
