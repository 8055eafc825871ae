import { describe, expect, it } from 'vitest';
import { ThreadError, ThreadPool, type ThreadWork } from './thread-pool.ts';

type Request =
  | { readonly add: number }
  | { readonly fail: string }
  | { readonly isOver: true }
  | { readonly wait: true };

function countInThread(start: number): ThreadWork<Request> {
  const { threadId } = process.getBuiltinModule('node:worker_threads');
  let sum = start;
  return {
    handle(request, answer) {
      if ('add' in request) answer({ sum: (sum += request.add), threadId }, []);
      if ('fail' in request) throw new TypeError(request.fail);
      if ('isOver' in request) process.exit(3);
    },
    end() {},
  };
}

interface Count {
  readonly sum: number;
  readonly threadId: number;
}

describe('ThreadPool', () => {
  it('keeps jobs apart, in no more threads than it may have', async () => {
    const pool = new ThreadPool(2, countInThread);
    const jobs = [100, 200, 300].map((start) => pool.startJob(start));
    const ask = async () => Promise.all(jobs.map((job) => job.ask<Count>({ add: 1 }, [])));
    await ask();
    const counts = await ask();
    expect(counts.map(({ sum }) => sum)).toEqual([102, 202, 302]);
    expect(new Set(counts.map(({ threadId }) => threadId)).size).toBe(2);
    for (const job of jobs) job[Symbol.dispose]();
  });

  it('uses a thread again that has nothing to do', async () => {
    const pool = new ThreadPool(2, countInThread);
    const threads = new Set<number>();
    for (let count = 0; count < 3; count++) {
      using job = pool.startJob(0);
      threads.add((await job.ask<Count>({ add: 1 }, [])).threadId);
    }
    expect(threads.size).toBe(1);
  });

  it('hands memory over', async () => {
    using job = new ThreadPool(1, countInThread).startJob(0);
    const memory = new ArrayBuffer(8);
    await job.ask({ add: 1, memory }, [memory]);
    expect(memory.byteLength).toBe(0);
  });

  it('tells everyone who waits that a job was given up', async () => {
    const job = new ThreadPool(1, countInThread).startJob(0);
    const waiting = job.ask({ wait: true }, []);
    job[Symbol.dispose]();
    job[Symbol.dispose]();
    await expect(waiting).rejects.toThrow(new ThreadError('The work was given up'));
    await expect(job.ask({ add: 1 }, [])).rejects.toThrow(new ThreadError('The work was given up'));
  });

  it.each([
    ['fails', { fail: 'out of order' }, 'out of order'],
    ['exits', { isOver: true }, undefined],
  ])('tells everyone who waits that a thread %s, and starts another', async (_, request, cause) => {
    const pool = new ThreadPool(1, countInThread);
    using first = pool.startJob(1);
    using second = pool.startJob(2);
    const waiting = [first.ask({ wait: true }, []), second.ask(request, [])];
    for (const result of await Promise.allSettled(waiting)) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { name: 'ThreadError', cause: cause && { message: cause } },
      });
    }
    await expect(first.ask({ add: 1 }, [])).rejects.toThrow(ThreadError);
    using next = pool.startJob(3);
    expect(await next.ask({ add: 1 }, [])).toMatchObject({ sum: 4 });
  });
});
