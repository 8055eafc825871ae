import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { NexError } from '@nex-nix/errors';
import {
  CONTROL_VERSION,
  type ControlReply,
  type ControlRequest,
  LONGEST_REPLY,
  shortPath,
} from './control-protocol.ts';
import type { DevControls, DevLogEntry, DevLogOptions, DevStatus, ServiceName } from '../dev-controls.ts';
import { DevError } from '../dev-error.ts';
import { devPaths } from '../dev-paths.ts';

/** Dev services that another process runs. */
export interface RunningDevServices extends DevControls, AsyncDisposable {
  /** Ends them. Resolves when nothing of them runs any more, and others may be started. */
  down(): Promise<void>;
}

/** An error of the process that runs the services, told by this one. */
class RemoteError extends NexError {}

type Asked = ControlRequest extends infer R ? (R extends { version: number } ? Omit<R, 'version'> : never) : never;

/**
 * The dev services that run on a data folder, over their control socket.
 *
 * @throws {DevError} DEVENV_NOT_RUNNING when none do, also when they were killed; DEVENV_VERSION_DIFFERS
 */
export async function connectDevServices(dataDir: string): Promise<RunningDevServices> {
  const client = new ControlClient(resolve(dataDir));
  await client.status();
  return client;
}

class ControlClient implements RunningDevServices {
  readonly #dataDir: string;
  readonly #closing = new AbortController();

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  async status(): Promise<DevStatus> {
    for await (const reply of this.#ask({ op: 'status' })) if ('status' in reply) return reply.status;
    throw this.#gone();
  }

  async *watch(signal?: AbortSignal): AsyncIterable<DevStatus> {
    for await (const reply of this.#ask({ op: 'watch' }, signal)) if ('status' in reply) yield reply.status;
  }

  async *logs({ signal, services, tail, follow }: DevLogOptions = {}): AsyncIterable<DevLogEntry> {
    const request = {
      op: 'logs' as const,
      ...(services === undefined ? {} : { services }),
      ...(tail === undefined ? {} : { tail }),
      ...(follow === undefined ? {} : { follow }),
    };
    for await (const reply of this.#ask(request, signal)) if ('entry' in reply) yield reply.entry;
  }

  async restart(service: ServiceName): Promise<void> {
    for await (const reply of this.#ask({ op: 'restart', service })) if ('done' in reply) return;
    throw this.#gone();
  }

  async down(): Promise<void> {
    // The connection ends when everything else has.
    for await (const _ of this.#ask({ op: 'down' }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
  }

  async *#ask(request: Asked, signal?: AbortSignal): AsyncIterable<ControlReply> {
    const stop = AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]);
    stop.throwIfAborted();
    const socket = await this.#connect();
    const close = (): void => void socket.destroy();
    stop.addEventListener('abort', close, { once: true });
    try {
      socket.write(`${JSON.stringify({ version: CONTROL_VERSION, ...request })}\n`);
      for await (const line of linesOf(socket)) {
        const reply = JSON.parse(line) as ControlReply;
        if ('error' in reply) {
          const { kind, code, message, hint } = reply.error;
          throw new RemoteError(kind, code, message, { hint });
        }
        yield reply;
        if ('done' in reply) return;
      }
    } catch (error) {
      // It breaks when the other process dies, and when we do not want more.
      const { code = '' } = error as NodeJS.ErrnoException;
      if (!stop.aborted && !['ECONNRESET', 'EPIPE'].includes(code)) throw error;
    } finally {
      stop.removeEventListener('abort', close);
      socket.destroy();
    }
  }

  async #connect(): Promise<Socket> {
    using place = this.#place();
    const socket = connect(place.path);
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      socket.destroy();
      if (isAbsent(error)) throw this.#notRunning(error);
      throw error;
    }
  }

  #place(): Disposable & { path: string } {
    try {
      return shortPath(devPaths(this.#dataDir).socket);
    } catch (error) {
      if (isAbsent(error)) throw this.#notRunning(error);
      throw error;
    }
  }

  #notRunning(cause: unknown): DevError {
    return new DevError('DEVENV_NOT_RUNNING', `Cannot reach dev services in "${this.#dataDir}": none run there`, {
      hint: 'Start them: nex dev up -d; or name their folder: --data-dir FOLDER',
      cause,
    });
  }

  #gone(): DevError {
    return new DevError('DEVENV_GONE', `Cannot go on with the dev services in "${this.#dataDir}": they have ended`);
  }
}

/** Of a killed process the socket stays, and nobody listens. */
function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '');
}

/** Lines of a socket until the other side closes it. */
async function* linesOf(socket: Socket): AsyncIterable<string> {
  socket.setEncoding('utf8');
  let rest = '';
  for await (const chunk of socket as AsyncIterable<string>) {
    const [first = '', ...others] = chunk.split('\n');
    rest += first;
    for (const next of others) {
      yield rest;
      rest = next;
    }
    if (rest.length > LONGEST_REPLY) {
      throw new DevError(
        'DEVENV_VERSION_DIFFERS',
        'Cannot understand the dev services: they are of another version than this nex',
      );
    }
  }
}
