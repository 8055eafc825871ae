import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions, NatsConnection } from '@nats-io/nats-core';
import { connect } from '@nats-io/transport-node';
import { type RunningProcess, startProcess } from './process.ts';
import { tempDir } from './temp-dir.ts';
import { findTool } from './tools.ts';
import { waitFor } from './wait-for.ts';

export interface NatsServerOptions {
  /** JetStream on (default) or off. */
  jetstream?: boolean;
  /** More lines for the configuration file, in nats-server's own syntax. */
  config?: string;
}

export interface TestNatsServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** The folder that holds what JetStream keeps, unless `config` says otherwise. */
  readonly storeDir: string;
  /** A connection that is closed together with the server. */
  connect(options?: ConnectionOptions): Promise<NatsConnection>;
  /** Kills the server and starts it again on the same port and data. */
  restart(signal?: NodeJS.Signals): Promise<void>;
}

/** A real nats-server, the one that `findTool` finds, on a free loopback port, its data in a temporary folder, in memory where that is possible. */
export async function startNatsServer(options: NatsServerOptions = {}): Promise<TestNatsServer> {
  const binary = findTool('nats-server');
  if (binary === undefined) throw new Error('nats-server is not on PATH');
  // What JetStream waits for is the disk; nothing here is about what that does.
  const dir = await tempDir('nex-nats-', { inMemory: true });
  const connections: NatsConnection[] = [];
  const storeDir = join(dir.path, 'js');
  let server: RunningProcess;
  let port = -1;

  const start = async () => {
    const ports = join(dir.path, `ports-${Date.now()}`);
    await mkdir(ports);
    const config = [
      `listen: "127.0.0.1:${port}"`,
      `ports_file_dir: ${JSON.stringify(ports)}`,
      ...(options.jetstream === false ? [] : [`jetstream { store_dir: ${JSON.stringify(storeDir)} }`]),
      options.config ?? '',
    ].join('\n');
    const file = join(dir.path, 'nats.conf');
    await writeFile(file, config);
    server = startProcess(binary, ['-c', file]);
    let ended = false;
    server.exited.then(
      () => (ended = true),
      () => (ended = true),
    );
    const url = await waitFor('nats-server to listen', async () => {
      if (ended) throw new Error(`nats-server ended at start:\n${server.output()}`);
      return readUrl(ports);
    });
    port = Number(new URL(url).port);
  };

  try {
    await start();
  } catch (error) {
    await dir[Symbol.asyncDispose]();
    throw error;
  }
  return {
    get url() {
      return `nats://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    get pid() {
      return server.pid;
    },
    storeDir,
    async connect(connectOptions = {}) {
      const nc = await connect({ servers: `127.0.0.1:${port}`, ...connectOptions });
      connections.push(nc);
      return nc;
    },
    async restart(signal = 'SIGKILL') {
      server.kill(signal);
      await server.exited;
      await start();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(connections.map((nc) => nc.close()));
      await server[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** The client URL out of the ports file, or undefined while it is absent or half written. */
async function readUrl(folder: string): Promise<string | undefined> {
  for (const name of await readdir(folder)) {
    try {
      const ports = JSON.parse(await readFile(join(folder, name), 'utf8')) as { nats?: string[] };
      return ports.nats?.[0];
    } catch {
      return undefined;
    }
  }
  return undefined;
}
