import { Agent, type ClientRequestArgs } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Most bytes of one read. Each costs JavaScript a tenth of a millisecond, whatever it brings; beyond this little is gained. */
const READ_SIZE = 512 * 1024;

/**
 * Connections that all read into the same memory, again and again. Node's own way makes garbage of 64 KiB for each read, and V8 then
 * runs a full collection for about every ten megabytes.
 *
 * It is enough to have one buffer: libuv reads on this thread and hands on what it read before it reads anything else (on Windows it would
 * not), and Node's HTTP parser copies what it is handed.
 */
export class RecyclingAgent extends Agent {
  readonly #buffer = Buffer.allocUnsafeSlow(READ_SIZE);

  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const buffer = this.#buffer;
    const onread = {
      buffer,
      callback(length: number) {
        socket?.emit('data', buffer.subarray(0, length));
        return true;
      },
    };
    const socket = super.createConnection({ ...options, onread } as ClientRequestArgs, callback) as Socket | undefined;
    return socket;
  }
}
