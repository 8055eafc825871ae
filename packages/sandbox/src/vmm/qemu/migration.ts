import { createWriteStream } from 'node:fs';
import { chown, readFile } from 'node:fs/promises';
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SandboxError } from '../../sandbox-error.ts';
import { QEMU_FILES } from './qemu-arguments.ts';
import type { QemuEvents } from './qemu-events.ts';
import type { QmpClient } from './qmp-client.ts';
import { connectUnix, listenUnix } from '../unix-connection.ts';

/** Bytes a second; QEMU's own default is that of a slow network. */
const BANDWIDTH = 10 * 1024 ** 3;

const TIMEOUT_MS = 20_000;

/** QEMU may start no program and is passed no files, so a state goes through a socket. */
const URI = `unix:${QEMU_FILES.state}`;

/** A QEMU to which, or from which, a state goes. */
export interface MigrationSide {
  client: QmpClient;
  events: QemuEvents;
  /** The folder that it runs in. */
  run: string;
}

/** Writes the state of a VM that is stopped into a file: of everything but its memory. Nothing can be done with the VM then. */
export async function saveState(side: MigrationSide, { file, user }: { file: string; user: number }): Promise<void> {
  const { client, run } = side;
  await using server = await listenUnix(run, QEMU_FILES.state);
  await chown(join(run, QEMU_FILES.state), user, user);
  await prepare(client);
  await client.execute('migrate-set-parameters', { 'max-bandwidth': BANDWIDTH });
  await migrated(side, 'save the state of a guest', async (signal) => {
    const connection = accepted(server, signal);
    connection.catch(() => undefined);
    await client.execute('migrate', { uri: URI });
    await pipeline(await connection, createWriteStream(file, { flags: 'wx', mode: 0o444 }), { signal });
  });
}

/** Gives a state to a VM that waits for one. It is stopped then. */
export async function loadState(side: MigrationSide, file: string): Promise<void> {
  const { client, run } = side;
  // Some 70 KiB: the state of the devices.
  const state = await readFile(file);
  await prepare(client);
  await client.execute('migrate-incoming', { uri: URI });
  await migrated(side, 'restore a guest', async (signal) => {
    const socket = await connectUnix(run, QEMU_FILES.state, signal);
    // QEMU closes it as soon as it has all, or has had enough; which of them it was, it says on its monitor.
    socket.on('error', () => undefined);
    socket.end(state);
  });
}

async function prepare(client: QmpClient): Promise<void> {
  const capabilities = ['x-ignore-shared', 'events'].map((capability) => ({ capability, state: true }));
  await client.execute('migrate-set-capabilities', { capabilities });
}

/** Runs `transfer`, and waits until QEMU says that it is done; a QEMU that cannot take a state ends. */
async function migrated(
  { client, events }: MigrationSide,
  doing: string,
  transfer: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const completed = Promise.withResolvers<void>();
  const failed = new SandboxError('SANDBOX_VMM_FAILED', `Cannot ${doing}: QEMU gave up`);
  using _ = events.listen((event) => {
    if (event.name !== 'MIGRATION') return;
    if (event.status === 'completed') completed.resolve();
    if (event.status === 'failed') completed.reject(failed);
  });
  const late = () => completed.reject(new SandboxError('SANDBOX_VMM_FAILED', `Cannot ${doing}: it does not end`));
  signal.addEventListener('abort', late, { once: true });
  // Its end, if it comes, comes before that of the process and of the stream.
  const closed = client.closed.then((error) => Promise.reject(error));
  try {
    await Promise.race([Promise.all([transfer(signal), completed.promise]), closed]);
  } finally {
    signal.removeEventListener('abort', late);
    stop.abort();
    completed.resolve();
  }
}

async function accepted(server: Server, signal: AbortSignal): Promise<Socket> {
  const [socket] = (await once(server, 'connection', { signal })) as [Socket];
  return socket;
}
