import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BidBook } from './bid-book.ts';

describe('BidBook', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('lets a bid be taken once', () => {
    using book = new BidBook(1_000);
    const id = book.open({ agentId: 'a' });
    expect(book.peek(id)).toEqual({ agentId: 'a' });
    expect(book.take(id)).toEqual({ agentId: 'a' });
    expect(book.take(id)).toBeUndefined();
    expect(book.peek(id)).toBeUndefined();
  });

  it('forgets a bid after its time', () => {
    using book = new BidBook(1_000);
    const id = book.open({ agentId: 'a' });
    vi.advanceTimersByTime(999);
    expect(book.peek(id)).toBeDefined();
    vi.advanceTimersByTime(1);
    expect(book.peek(id)).toBeUndefined();
  });

  it('leaves no timer behind', () => {
    const book = new BidBook(1_000);
    book.open({ agentId: 'a' });
    book.open({ agentId: 'b' });
    book[Symbol.dispose]();
    expect(vi.getTimerCount()).toBe(0);
  });
});
