import { once } from 'node:events';
import { chmod, rename, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errorKind, toPublicError } from '@nex-nix/errors';
import {
  CONTROL_VERSION,
  type ControlReply,
  type ControlRequest,
  LONGEST_REQUEST,
  shortPath,
} from './control-protocol.ts';
import type { DevControls } from '../dev-controls.ts';
import { DevError } from '../dev-error.ts';
import { devPaths } from '../dev-paths.ts';

/** For which readers may take what was said before the end. */
const GRACE_MS = 1000;

/** In which a process that ran the services and nothing else has ended. */
const PROCESS_ENDS_MS = 1000;

export interface ControlServerOptions {
  dataDir: string;
  controls: DevControls;
  /** Told that somebody wants the services to end. */
  onDown: () => void;
}

/** Listens on the control socket of a data folder, which only its owner may connect to. */
export class ControlServer implements AsyncDisposable {
  readonly #options: ControlServerOptions;
  readonly #server: Server;
  readonly #place: Disposable;
  readonly #sockets = new Set<Socket>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #closed: Promise<void> | undefined;

  private constructor(options: ControlServerOptions, server: Server, place: Disposable) {
    this.#options = options;
    this.#server = server;
    this.#place = place;
    server.on('connection', (socket) => this.#serve(socket));
  }

  /** The caller must hold the folder's lock: a socket that is there is of nobody. */
  static async start(options: ControlServerOptions): Promise<ControlServer> {
    const { nats, socket } = devPaths(options.dataDir);
    // Made where nobody else comes to, and moved when its mode is right.
    const temporary = join(nats, 'dev.sock');
    await rm(temporary, { force: true });
    const place = shortPath(temporary);
    const server = createServer();
    try {
      server.listen(place.path);
      await once(server, 'listening');
      await chmod(temporary, 0o600);
      const control = new ControlServer(options, server, place);
      await rename(temporary, socket);
      return control;
    } catch (error) {
      server.close();
      place[Symbol.dispose]();
      throw error;
    }
  }

  /** Takes no more requests. Those under way come to their end, but for `down`, which ends with {@link released}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  /**
   * Nothing is held any more: whoever waits for the end hears of it. That is when this process ends, as it mostly does
   * now, or soon when it has something else to do.
   */
  released(): void {
    for (const socket of this.#sockets) socket.unref();
    setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, PROCESS_ENDS_MS).unref();
  }

  async #close(): Promise<void> {
    await rm(devPaths(this.#options.dataDir).socket, { force: true });
    this.#server.close();
    // What is watched has come to its end, and only has to be read.
    const over = new AbortController();
    const late = delay(GRACE_MS, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([Promise.all(this.#running), late]);
    over.abort();
    this.#stopping.abort();
    await Promise.all(this.#running);
    this.#place[Symbol.dispose]();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    // Who does not listen any more is of no interest.
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
    const running = this.#answer(socket).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #answer(socket: Socket): Promise<void> {
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
    const send = async (reply: ControlReply): Promise<void> => {
      if (!socket.write(`${JSON.stringify(reply)}\n`)) await once(socket, 'drain', { signal });
    };
    try {
      const request = await firstRequest(socket, signal);
      if (request === undefined) return;
      if (request.op === 'down') {
        this.#options.onDown();
        return;
      }
      for await (const reply of this.#replies(request, signal)) await send(reply);
      await send({ done: true });
      socket.end();
    } catch (error) {
      if (signal.aborted) return;
      const { code, message, hint } = toPublicError(error);
      const told = { code, kind: errorKind(error), message, ...(hint === undefined ? {} : { hint }) };
      socket.end(`${JSON.stringify({ error: told } satisfies ControlReply)}\n`);
    } finally {
      if (this.#stopping.signal.aborted && !gone.signal.aborted) socket.end();
    }
  }

  async *#replies(request: ControlRequest, signal: AbortSignal): AsyncIterable<ControlReply> {
    const { controls } = this.#options;
    switch (request.op) {
      case 'status':
        yield { status: await controls.status() };
        return;
      case 'watch':
        for await (const status of controls.watch(signal)) yield { status };
        return;
      case 'logs': {
        const { services, tail, follow } = request;
        for await (const entry of controls.logs({ services, tail, follow, signal })) yield { entry };
        return;
      }
      case 'restart':
        await controls.restart(request.service);
        return;
      case 'down':
        return;
      default:
        throw versionDiffers();
    }
  }
}

/** What the client asks; undefined when it leaves without. */
async function firstRequest(socket: Socket, signal: AbortSignal): Promise<ControlRequest | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>();
  let text = '';
  socket.setEncoding('utf8');
  // Read to its end also when the request is known: otherwise nobody would see that the client leaves.
  socket.on('data', (chunk: string) => {
    if (text.length > LONGEST_REQUEST) return;
    text += chunk;
    const end = text.indexOf('\n');
    if (end !== -1) resolve(text.slice(0, end));
    else if (text.length > LONGEST_REQUEST) reject(versionDiffers());
  });
  signal.addEventListener('abort', () => resolve(undefined), { once: true });
  const line = await promise;
  if (line === undefined) return undefined;
  const request = parse(line);
  if (request.version !== CONTROL_VERSION) throw versionDiffers();
  return request;
}

function parse(line: string): ControlRequest {
  try {
    return JSON.parse(line) as ControlRequest;
  } catch (cause) {
    throw new DevError('DEVENV_VERSION_DIFFERS', 'Cannot understand a request on the control socket: it is no JSON', {
      cause,
    });
  }
}

function versionDiffers(): DevError {
  return new DevError(
    'DEVENV_VERSION_DIFFERS',
    'Cannot control the dev services: they are of another version than this nex',
    {
      hint: 'End them as they were started: Ctrl-C, or SIGTERM to the process that the status names',
    },
  );
}
