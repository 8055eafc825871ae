import { get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;
const REQUEST_MS = 2000;

/** Asks a URL until it answers with status 200. Ends with an error by `signal` only. */
export async function untilHttpReady(url: string, signal: AbortSignal): Promise<void> {
  while ((await statusOf(url, signal)) !== 200) await delay(POLL_MS, undefined, { signal });
}

/** The status of the answer; undefined when there is none. */
async function statusOf(url: string, signal: AbortSignal): Promise<number | undefined> {
  signal.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const limit = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]);
  // No agent: a connection that is kept would hold what is asked open while it stops.
  const request = get(url, { agent: false, signal: limit }, (response) => {
    response.resume();
    resolve(response.statusCode);
  });
  request.on('error', () => resolve(undefined));
  return promise;
}
