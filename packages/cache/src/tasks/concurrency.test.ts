import { describe, expect, it } from 'vitest';
import { mapOrdered } from './map-ordered.ts';
import { Semaphore } from './semaphore.ts';
import { TaskGroup } from './task-group.ts';

const turn = async () => new Promise<void>((resolve) => setImmediate(resolve));

describe('mapOrdered()', () => {
  it('keeps the order and the window, whatever ends first', async () => {
    let running = 0;
    let most = 0;
    const slow = async (item: number) => {
      most = Math.max(most, ++running);
      for (let i = 0; i < (item * 7) % 5; i++) await turn();
      running--;
      return item;
    };
    const items = Array.from({ length: 40 }, (_, i) => i);
    expect(await Array.fromAsync(mapOrdered(items, slow, { window: 4 }))).toEqual(items);
    expect(most).toBe(4);
  });

  it('aborts and waits for the others when one fails, or when the consumer stops', async () => {
    let running = 0;
    const untilAborted = async (item: number, signal: AbortSignal) => {
      running++;
      try {
        if (item === 0) return item;
        if (item === 2) throw new Error('two');
        while (!signal.aborted) await turn();
        return item;
      } finally {
        running--;
      }
    };
    const failing = async () => Array.fromAsync(mapOrdered([2, 1, 1], untilAborted, { window: 3 }));
    await expect(failing()).rejects.toThrow('two');
    expect(running).toBe(0);
    for await (const first of mapOrdered([0, 1, 1], untilAborted, { window: 3 })) {
      expect(first).toBe(0);
      break;
    }
    expect(running).toBe(0);
  });
});

describe('Semaphore', () => {
  it('serves in order, never more than there is, and forgets who gave up', async () => {
    const semaphore = new Semaphore(10);
    const first = await semaphore.acquire(8);
    const order: string[] = [];
    const large = semaphore.acquire(5).then((held) => (order.push('large'), held));
    const controller = new AbortController();
    const givenUp = semaphore.acquire(5, controller.signal);
    const small = semaphore.acquire(1).then((held) => (order.push('small'), held));
    controller.abort(new Error('gave up'));
    await expect(givenUp).rejects.toThrow('gave up');
    expect(order).toEqual([]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    for (const held of await Promise.all([large, small])) held[Symbol.dispose]();
    expect(order).toEqual(['large', 'small']);
    (await semaphore.acquire(1000))[Symbol.dispose]();
  });
});

describe('TaskGroup', () => {
  it('ends all with the first failure, and waits for them', async () => {
    const group = new TaskGroup();
    let ended = false;
    group.start(async (signal) => {
      while (!signal.aborted) await turn();
      await turn();
      ended = true;
      throw new Error('second');
    });
    group.start(async () => {
      await turn();
      throw new Error('first');
    });
    await expect(group.join()).rejects.toThrow('first');
    expect(ended).toBe(true);
  });
});
