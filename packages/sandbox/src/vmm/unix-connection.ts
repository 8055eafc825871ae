import { closeSync, constants, openSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';

/**
 * Calls `use` with a short path of a file in a folder: the address of a Unix socket has 107 bytes at most, and those of
 * folders have no such limit.
 */
async function withShortPath<T>(folder: string, name: string, use: (path: string) => Promise<T>): Promise<T> {
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await use(`/proc/self/fd/${descriptor}/${name}`);
  } finally {
    closeSync(descriptor);
  }
}

/** Connects to a Unix socket in a folder. */
export async function connectUnix(folder: string, name: string, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  return withShortPath(folder, name, async (path) => {
    const socket = connect(path);
    try {
      await once(socket, 'connect', signal === undefined ? {} : { signal });
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  });
}

/** A server at a Unix socket in a folder. Closing it removes the socket. */
export async function listenUnix(folder: string, name: string): Promise<Server> {
  return withShortPath(folder, name, async (path) => {
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    return server;
  });
}
