import { once } from 'node:events';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../file-errors.ts';
import { SandboxError } from '../../sandbox-error.ts';
import { connectUnix } from '../unix-connection.ts';

/** Milliseconds between two looks whether the guest listens by now. Nothing tells. */
const LOOK_AGAIN = 10;

/** Milliseconds for Firecracker's answer; it gives up on a guest that does not answer after two seconds. */
const ANSWER_TIMEOUT = 5000;

/** Bytes of `OK <port>\n`, with the highest port there is. */
const MAX_ANSWER = 14;

/**
 * Connects to a port of a guest through the Unix socket of its vsock, `name` in `folder`, as Firecracker wants it: `CONNECT <port>`, answered
 * with `OK <port>`. Waits until the guest listens there.
 *
 * @throws SandboxError SANDBOX_VMM_FAILED when the socket is gone, or answers anything else; the reason of `signal`.
 */
export async function connectVsock(
  folder: string,
  name: string,
  { port, signal }: { port: number; signal?: AbortSignal | undefined },
): Promise<Socket> {
  for (;;) {
    signal?.throwIfAborted();
    const socket = await tryConnect({ folder, name, port, signal });
    if (socket !== undefined) return socket;
    await delay(LOOK_AGAIN, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/** Undefined when the guest does not listen there. */
async function tryConnect({
  folder,
  name,
  port,
  signal,
}: {
  folder: string;
  name: string;
  port: number;
  signal: AbortSignal | undefined;
}): Promise<Socket | undefined> {
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT);
  const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  let socket: Socket | undefined;
  try {
    socket = await connectUnix(folder, name, either);
    socket.on('error', ignore);
    socket.write(`CONNECT ${port}\n`);
    const answer = await readLine(socket, either);
    if (answer === undefined) return undefined;
    if (!/^OK \d+\n$/.test(answer)) throw new Error(`it answers "${answer.trim()}"`);
    const connected = socket.off('error', ignore);
    socket = undefined;
    return connected;
  } catch (error) {
    signal?.throwIfAborted();
    if (timeout.aborted) return undefined;
    throw new SandboxError(
      'SANDBOX_VMM_FAILED',
      `Cannot connect to the guest by "${join(folder, name)}": ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  } finally {
    socket?.destroy();
  }
}

/** The first line; what comes after it stays to be read. Undefined when the socket was closed before its end. */
async function readLine(socket: Socket, signal: AbortSignal): Promise<string | undefined> {
  let line = Buffer.alloc(0);
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.readableEnded || socket.destroyed) return undefined;
      await nextRead(socket, signal);
      continue;
    }
    line = Buffer.concat([line, chunk]);
    const end = line.indexOf('\n') + 1;
    if (end > 0 && end < line.length) socket.unshift(line.subarray(end));
    if (end > 0) return line.subarray(0, end).toString('latin1');
    if (line.length >= MAX_ANSWER) return line.toString('latin1');
  }
}

async function nextRead(socket: Socket, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const options = { signal: AbortSignal.any([signal, over.signal]) };
  try {
    await Promise.race([once(socket, 'readable', options), once(socket, 'close', options)]);
  } catch (error) {
    signal.throwIfAborted();
    // A reset is an end like any other: that of a guest without a listener.
    if (!hasErrno(error, 'ECONNRESET', 'EPIPE')) throw error;
    socket.destroy();
  } finally {
    over.abort();
  }
}

/** For errors that come while nobody waits for anything; `close` follows them. */
const ignore = () => undefined;
