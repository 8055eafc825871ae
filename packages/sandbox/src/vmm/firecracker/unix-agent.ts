import { Agent, type ClientRequestArgs } from 'node:http';
import type { Duplex } from 'node:stream';
import { connectUnix } from '../unix-connection.ts';

/** Connections to a Unix socket, whatever the length of its path; one, which is kept. */
export class UnixAgent extends Agent {
  readonly #folder: string;
  readonly #name: string;

  constructor(folder: string, name: string) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#folder = folder;
    this.#name = name;
  }

  override createConnection(_args: ClientRequestArgs, done?: (error: Error | null, socket: Duplex) => void): undefined {
    void this.#connect(done);
  }

  async #connect(done?: (error: Error | null, socket: Duplex) => void): Promise<void> {
    try {
      done?.(null, await connectUnix(this.#folder, this.#name));
    } catch (error) {
      // With an error there is no socket, whatever the type says.
      (done as ((error: Error) => void) | undefined)?.(error as Error);
    }
  }
}
