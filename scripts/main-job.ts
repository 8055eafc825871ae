// The main job, end to end: dev services, a node, the echo service built by Nix, devrun, one request.
// What a user would type is run as the nex command itself and shown with its output.
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { DevServices } from '@nex-nix/devenv';
import { errorClass, type ErrorKind, exitCode } from '@nex-nix/errors';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient } from '@nex-nix/protocol';
import type { NatsConnection } from '@nats-io/nats-core';
import { Svcm } from '@nats-io/services';
import { buildEcho } from '../examples/echo/build-echo.ts';
import { printError, table } from '../packages/cli/src/output.ts';
import { NEX, nex } from './nex-command.ts';

const ROOT = join(import.meta.dirname, '..');
const USAGE = `npm start -- [--once] [--data-dir FOLDER] [--port PORT] [--cache-port PORT] [--timings FILE]

Runs the main job: NATS dev services, a node, the echo service as a Nix closure, one request.
  --once        exit after the reply instead of staying up
  --data-dir    where everything is kept (default: .data)
  --port        port of the NATS server (default: 4222, or a free one)
  --cache-port  port of the binary cache, for Nix clients (default: 8080, or a free one)
  --timings     write how long each step took to this file, as JSON (milliseconds)
`;

const NATS_PORT = 4222;
/** How long the echo service may take to stop, in milliseconds. */
const STOP_TIMEOUT = 15_000;
/** Exit codes of a job that was stopped before it was done, as shells have them: 128 and the signal's number. */
const INTERRUPTED = { SIGHUP: 129, SIGINT: 130, SIGPIPE: 141, SIGTERM: 143 };

const KINDS = {
  MAIN_JOB_USAGE: 'usage',
  MAIN_JOB_NEEDS_ROOT: 'refused',
} as const satisfies Record<string, ErrorKind>;

/** Why the main job does not start. */
class MainJobError extends errorClass(KINDS) {}

/** How long each step took, in the order they ended; steps that run side by side overlap. */
class Timings {
  readonly steps: { step: string; ms: number }[] = [];

  async measure<T>(step: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work();
    this.steps.push({ step, ms: Math.round(performance.now() - start) });
    return result;
  }
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseOptions();
  if (options.help) {
    console.log(USAGE);
    return;
  }
  const uid = process.getuid?.();
  if (uid !== 0) {
    throw new MainJobError('MAIN_JOB_NEEDS_ROOT', `Cannot run the main job as user ${uid}: sandboxes need root`, {
      hint: 'sudo env "PATH=$PATH" npm start',
    });
  }
  const timings = new Timings();
  await using stack = new AsyncDisposableStack();
  try {
    const { dev, storePath } = await timings.measure('everything up to the reply', () =>
      runJob(stack, timings, { ...options, signal }),
    );
    if (!options.once) await stayUp(dev, whatNext(dev, storePath), signal);
  } finally {
    if (signal.aborted) console.log('\nStopping …');
    await timings.measure('stopping everything', () => stack.disposeAsync());
  }
  if (options.timings !== undefined) await writeFile(options.timings, JSON.stringify(timings.steps));
}

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        'data-dir': { type: 'string', default: join(ROOT, '.data') },
        port: { type: 'string' },
        'cache-port': { type: 'string' },
        timings: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const { 'data-dir': dataDir, port, 'cache-port': cachePort, ...rest } = values;
    return { ...rest, dataDir: resolve(dataDir), port: parsePort(port), cachePort: parsePort(cachePort) };
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) throw error;
    const [message = ''] = (error as Error).message.split('. ');
    throw new MainJobError('MAIN_JOB_USAGE', message, { hint: 'npm start -- --help', cause: error });
  }
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text) && Number(text) < 65_536) return Number(text);
  throw new MainJobError('MAIN_JOB_USAGE', `Cannot use the port "${text}": it is no number from 0 to 65535`);
}

interface Job {
  dataDir: string;
  /** 0: any free one; undefined: 4222 when it is free, else any. */
  port: number | undefined;
  /** 0: any free one; undefined: 8080 when it is free, else any. */
  cachePort: number | undefined;
  signal: AbortSignal;
}

async function runJob(stack: AsyncDisposableStack, timings: Timings, { dataDir, port, cachePort, signal }: Job) {
  const { DevServices } = await import('@nex-nix/devenv');
  const [dev, echo] = await both(signal, (either) => [
    timings.measure('dev services with cache and node', async () => {
      const services = stack.use(
        await DevServices.start({ dataDir, port, cachePort, command: NEX, node: true, signal: either }),
      );
      sayReady(services, port);
      return services;
    }),
    timings.measure('nix build of the echo service', () => buildEcho({ dataDir, signal: either })),
  ]);
  const from = echo.way === 'nixpkgs' ? 'with nixpkgs' : "from this machine's own Node and C library";
  console.log(`✅ Echo service built ${from}: ${echo.storePath}`);

  const env = { XDG_CONFIG_HOME: dev.configDir };
  const variables = [`NATS_URL=${dev.url}`, `NATS_JWT=${await dev.echoServiceJwt()}`];
  await timings.measure('nex devrun', () =>
    nex(['--context', 'ExpAdmin', 'devrun', echo.storePath, ...variables], { env, signal }),
  );
  await timings.measure('nex workload list', () => nex(['--context', 'ExpAdmin', 'workload', 'list'], { env, signal }));

  const nc = await connectNats({ context: 'ExpAdmin', configDir: dev.configDir, signal });
  try {
    await timings.measure('micro services and request', () => askEcho(nc));
  } finally {
    await nc.close();
  }
  // A node starts again what nobody has stopped.
  stack.defer(() => stopEcho(dev));
  return { dev, storePath: echo.storePath };
}

function sayReady(dev: DevServices, port: number | undefined): void {
  const other = port === undefined && dev.port !== NATS_PORT ? `, as port ${NATS_PORT} was taken` : '';
  console.log(`✅ NATS server at ${dev.url}${other}: operator Nex, account Exp, contexts Sys, ExpAdmin, ExpNode`);
  if (dev.cache !== undefined) console.log(`✅ Binary cache for Nix clients at ${dev.cache.url}`);
  console.log(`✅ Node ${dev.nodeId} is ready, with the nix nexlet and its cache`);
}

/** Runs two things side by side. When one fails, or `signal` is aborted, the other is aborted and waited for. */
async function both<A, B>(
  signal: AbortSignal,
  start: (signal: AbortSignal) => [Promise<A>, Promise<B>],
): Promise<[A, B]> {
  const abort = new AbortController();
  const tasks = start(AbortSignal.any([signal, abort.signal]));
  try {
    return await Promise.all(tasks);
  } finally {
    abort.abort();
    await Promise.allSettled(tasks);
  }
}

/** Returns when `signal` is aborted, or somebody has ended the services. */
async function stayUp(dev: DevServices, hints: string, signal: AbortSignal): Promise<void> {
  console.log(hints);
  console.log(`\nEverything stays up; Ctrl-C stops it all. Logs: ${show(join(dev.dataDir, 'logs'))}`);
  await Promise.race([dev.ended, untilAborted(signal)]);
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** Lists the micro services, asks the echo service, prints both. */
async function askEcho(nc: NatsConnection): Promise<void> {
  const services = [];
  for await (const info of await new Svcm(nc).client({ stall: 100, maxWait: 2_000, strategy: 'stall' }).info()) {
    services.push([info.name, info.version, info.id, info.description]);
  }
  console.log(`\n${table('All Micro Services', ['Name', 'Version', 'ID', 'Description'], services)}`);
  const start = performance.now();
  const reply = await nc.request('svc.echo', 'hello', { timeout: 5_000 });
  const rtt = (performance.now() - start).toFixed(2);
  console.log(`\nSent "hello" to svc.echo; received with rtt ${rtt} ms:\n${reply.string()}`);
}

/** Stops what `runJob` has started. That it cannot be stopped, as when the node is gone, is no reason not to stop the rest. */
async function stopEcho({ configDir }: DevServices): Promise<void> {
  const nc = await connectNats({ context: 'ExpAdmin', configDir });
  try {
    const client = new NexClient(nc);
    const { workloads } = await client.listWorkloads({ filter: ['echo'] });
    for (const { id } of workloads) await client.stopWorkload(id, { timeout: STOP_TIMEOUT });
  } catch (error) {
    printError(error);
  } finally {
    await nc.close();
  }
}

function whatNext(dev: DevServices, storePath: string): string {
  const command = existsSync(join(ROOT, 'node_modules/.bin/node'))
    ? 'npx nex'
    : `${process.execPath} packages/cli/bin/nex.js`;
  const context = `XDG_CONFIG_HOME=${show(dev.configDir)} ${command} --context ExpAdmin`;
  return [
    '\nWhat to try next, in another terminal in this folder:',
    `  ${context} workload list`,
    `  ${context} logs`,
    `  ${context} node list`,
    `  ${context} devrun ${storePath} --name second NATS_URL=${dev.url} NATS_JWT="$(sed -n 2p ${show(dev.credsFile('EchoService'))})"`,
    ...(dev.cache === undefined
      ? []
      : [`  nix copy --from ${dev.cache.url} --option extra-trusted-public-keys ${dev.cache.publicKey} ${storePath}`]),
    `  ${command} --help`,
  ].join('\n');
}

function show(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

const stop = new AbortController();
let received: keyof typeof INTERRUPTED | undefined;
const end = (name: keyof typeof INTERRUPTED): void => {
  received ??= name;
  stop.abort();
};
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => end(name));
}
// Nobody reads on, as in "npm start | head": everything must be stopped all the same.
process.stdout.on('error', () => end('SIGPIPE'));
try {
  await main(stop.signal);
} catch (error) {
  if (received === undefined || (error as Error).name !== 'AbortError') printError(error);
  process.exitCode = received === undefined ? exitCode(error) : INTERRUPTED[received];
}
