/**
 * Maps with up to `window` calls of `map` under way, and yields the results in the order of `items`.
 * When the consumer stops, or a call fails, the signal that the others got is aborted and they are waited for.
 */
export async function* mapOrdered<T, R>(
  items: Iterable<T>,
  map: (item: T, signal: AbortSignal) => Promise<R>,
  { window, signal }: { window: number; signal?: AbortSignal | undefined },
): AsyncGenerator<R, void, undefined> {
  const controller = new AbortController();
  const inner = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  const pending: Promise<R>[] = [];
  const iterator = items[Symbol.iterator]();
  const fill = () => {
    while (pending.length < window) {
      const next = iterator.next();
      if (next.done === true) return;
      const result = map(next.value, inner);
      // A failure is reported when its turn comes; until then it is not unhandled.
      result.catch(() => undefined);
      pending.push(result);
    }
  };
  try {
    fill();
    for (let head = pending[0]; head !== undefined; head = pending[0]) {
      const value = await head;
      void pending.shift();
      fill();
      yield value;
    }
  } finally {
    controller.abort();
    await Promise.allSettled(pending);
  }
}
