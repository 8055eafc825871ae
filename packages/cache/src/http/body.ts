import type { IncomingMessage, ServerResponse } from 'node:http';
import { abortable } from '../tasks/abortable.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import { Refusal } from './refusal.ts';

/**
 * The body of a request, in pieces that are valid until the next one is asked for. Leaves the connection as it is when the reader stops early, so that it can be answered.
 * @throws {@link Refusal} 408 when nothing comes for `idleTimeout` milliseconds; 413 beyond `maxSize` bytes.
 */
export async function* bodyOf(
  request: IncomingMessage,
  { idleTimeout, maxSize, signal }: { idleTimeout: number; maxSize: number; signal: AbortSignal },
): AsyncGenerator<Buffer, void, undefined> {
  const chunks = request.iterator({ destroyOnReturn: false });
  let size = 0;
  try {
    for (;;) {
      const next = await inTime(abortable(chunks.next(), signal), idleTimeout);
      if (next.done === true) return;
      const chunk = next.value as Buffer;
      size += chunk.length;
      if (size > maxSize) throw new Refusal(413, `Cannot take more than ${maxSize} bytes`);
      yield chunk;
    }
  } finally {
    // Not awaited: it ends when a pending `next` does, which is when more of the body comes.
    chunks.return?.()?.catch(() => undefined);
  }
}

async function inTime<T>(promise: Promise<T>, timeout: number): Promise<T> {
  const late = Promise.withResolvers<never>();
  const refuse = () => late.reject(new Refusal(408, `Cannot wait any longer: nothing came for ${timeout} ms`));
  const timer = setTimeout(refuse, timeout);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** All of a small body. */
export async function gather(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(source));
}

/**
 * Writes and ends a body, no faster than the client takes it. Pieces that have memory of their own are given back.
 * @throws an `Error` when the client takes nothing for `idleTimeout` milliseconds.
 */
export async function sendBody(
  response: ServerResponse,
  body: AsyncIterable<Uint8Array>,
  { idleTimeout, signal }: { idleTimeout: number; signal: AbortSignal },
): Promise<void> {
  for await (const bytes of body) {
    if (!response.write(bytes, () => releaseMemory(bytes))) await inTime(drained(response, signal), idleTimeout);
    signal.throwIfAborted();
  }
  response.end();
}

async function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.once('drain', resolve);
  try {
    await abortable(promise, signal);
  } finally {
    response.off('drain', resolve);
  }
}
