import { Agent, type ClientRequestArgs } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Most bytes of one read. Each costs JavaScript a tenth of a millisecond, whatever it brings; beyond this little is gained. */
const READ_SIZE = 512 * 1024;

/**
 * Connections that read into the same memory again and again. Node's own way makes garbage of 64 KiB for each read, and V8 then
 * runs a full collection for about every ten megabytes.
 *
 * It is enough to have one buffer since Node's HTTP parser copies what it hands on.
 */
export class RecyclingAgent extends Agent {
  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
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
