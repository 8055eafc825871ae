/** Options of everything that waits. */
export interface SignalOptions {
  signal?: AbortSignal | undefined;
}

/** `source`, but waiting for its next chunk ends with the signal's reason as soon as `signal` aborts. */
export function abortable<T>(source: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncIterable<T> {
  return signal === undefined ? source : iterate(source, signal);
}

async function* iterate<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void> {
  signal.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  // One promise for each wait: a race against one long-lived promise would pile up on that.
  let stopWaiting: (reason: unknown) => void = () => undefined;
  const abort = () => stopWaiting(signal.reason);
  const next = () =>
    new Promise<IteratorResult<T>>((resolve, reject) => {
      stopWaiting = reject;
      iterator.next().then(resolve, reject);
    });
  signal.addEventListener('abort', abort, { once: true });
  let isOver = false;
  try {
    for (;;) {
      const result = await next();
      if (result.done === true) {
        isOver = true;
        return;
      }
      yield result.value;
      signal.throwIfAborted();
    }
  } catch (error) {
    isOver = true;
    // A source that is stuck in next() would keep return() waiting: it is told, and what it says no longer matters.
    if (signal.aborted) iterator.return?.()?.catch(() => undefined);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    if (!isOver) await iterator.return?.();
  }
}

/** Waits for `promise`, but no longer than until `signal` aborts: then it throws the reason of that. */
export async function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
