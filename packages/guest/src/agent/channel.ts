import {
  close,
  existsSync,
  lstatSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  write,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestConfig } from './guest-config.ts';

const PORTS = '/sys/class/virtio-ports';

/** How long a port may take to appear: the kernel finds its devices while the agent starts. */
const PORT_APPEARS_MS = 15_000;

const READ_BYTES = 64 * 1024;

/** Between two looks for something that nobody tells of: a port, or a host at its other end. */
const LOOK_MS = 20;

/**
 * Opens the channel to the host. `attach` is given a stream for each host that comes; over a virtio-serial port it is one
 * for all of them. Never resolves before the last of these has ended.
 */
export async function openChannel(
  channel: GuestConfig['channel'],
  attach: (stream: Duplex) => Promise<void>,
): Promise<void> {
  if ('listen' in channel) return listen(channel.listen, attach);
  const file = 'port' in channel ? await findPort(channel.port) : channel.file;
  if (lstatSync(file).isSocket()) return attach(connect(file));
  await attach(new DeviceStream(openSync(file, 'r+')));
}

function listen(path: string, attach: (stream: Duplex) => Promise<void>): Promise<void> {
  // Who finds it there is answered: a socket has a name before somebody listens to it.
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  const server = createServer((socket) => void attach(socket));
  return new Promise((_, reject) => {
    server.once('error', reject);
    server.listen(temporary, () => renameSync(temporary, path));
  });
}

async function findPort(name: string): Promise<string> {
  const deadline = Date.now() + PORT_APPEARS_MS;
  while (Date.now() < deadline) {
    const ports = existsSync(PORTS) ? readdirSync(PORTS) : [];
    const port = ports.find((one) => readFileSync(join(PORTS, one, 'name'), 'utf8').trim() === name);
    if (port !== undefined && existsSync(join('/dev', port))) return join('/dev', port);
    await delay(LOOK_MS);
  }
  throw new Error(`Cannot reach the host: this guest has no virtio-serial port "${name}"`);
}

/**
 * A virtio-serial port. It can only be read as a file is, by a thread that waits: it is none of the things that the event
 * loop can wait for. Without a host at its other end a read returns nothing at once, and a write waits for one.
 */
class DeviceStream extends Duplex {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(READ_BYTES);

  constructor(fd: number) {
    super({ allowHalfOpen: false });
    this.#fd = fd;
  }

  override _read(): void {
    read(this.#fd, this.#buffer, 0, READ_BYTES, null, (error, length) => {
      if (this.destroyed) return;
      if (error !== null) this.destroy(error);
      else if (length > 0) this.push(Buffer.from(this.#buffer.subarray(0, length)));
      else setTimeout(() => this._read(), LOOK_MS);
    });
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    write(this.#fd, chunk, (error, length) => {
      if (error !== null || length === chunk.length) done(error);
      else this._write(chunk.subarray(length), encoding, done);
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    close(this.#fd, (closeError) => done(error ?? closeError));
  }
}
