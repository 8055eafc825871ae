// The main job, end to end: dev services, a node, the echo service built by Nix, devrun, one request.
// What a user would type is run as the nex command itself and shown with its output.
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { DevServices } from '@nex-nix/devenv';
import { exitCode } from '@nex-nix/errors';
import { connectNats } from '@nex-nix/nats-context';
import type { NatsConnection } from '@nats-io/nats-core';
import { Svcm } from '@nats-io/services';
import { buildEcho } from '../examples/echo/build-echo.ts';
import { printError, table } from '../packages/cli/src/output.ts';
import { nex, startDaemon } from './nex-command.ts';

const ROOT = join(import.meta.dirname, '..');
const USAGE = `npm start -- [--once] [--data-dir FOLDER] [--port PORT] [--timings FILE]

Runs the main job: NATS dev services, a node, the echo service as a Nix closure, one request.
  --once        exit after the reply instead of staying up
  --data-dir    where everything is kept (default: .data)
  --port        port of the NATS server (default: 4222, or a free one)
  --timings     write how long each step took to this file, as JSON (milliseconds)
`;

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

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      once: { type: 'boolean', default: false },
      'data-dir': { type: 'string', default: join(ROOT, '.data') },
      port: { type: 'string' },
      timings: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const dataDir = resolve(values['data-dir']);
  const abort = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => abort.abort());

  const timings = new Timings();
  await using stack = new AsyncDisposableStack();
  await timings.measure('everything up to the reply', () =>
    runJob(stack, timings, { dataDir, port: values.port, signal: abort.signal }),
  );
  if (!values.once && !abort.signal.aborted) {
    console.log(`\nEverything stays up; Ctrl-C stops it all. Logs: ${show(join(dataDir, 'logs'))}`);
    await once(abort.signal, 'abort');
  }
  if (!values.once) console.log('\nStopping …');
  await timings.measure('stopping everything', () => stack.disposeAsync());
  if (values.timings !== undefined) await writeFile(values.timings, JSON.stringify(timings.steps));
}

interface Job {
  dataDir: string;
  port: string | undefined;
  signal: AbortSignal;
}

async function runJob(stack: AsyncDisposableStack, timings: Timings, { dataDir, port, signal }: Job): Promise<void> {
  const logs = join(dataDir, 'logs');
  await mkdir(logs, { recursive: true });
  const { DevServices } = await import('@nex-nix/devenv');
  const dev = stack.use(
    await timings.measure('dev services', () =>
      DevServices.start({ dataDir, ...(port === undefined ? {} : { port: Number(port) }), signal }),
    ),
  );
  console.log(`✅ NATS server at ${dev.url}: operator Nex, account Exp, contexts Sys, ExpAdmin, ExpNode`);

  const [node, echo] = await Promise.all([
    timings.measure('node', () => startNode(dev, join(logs, 'node.log'))),
    timings.measure('nix build of the echo service', () => buildEcho({ dataDir, signal })),
  ]);
  stack.use(node);
  console.log(`✅ Node ${node.id} is ready, with the nix nexlet and its cache`);
  const from = echo.way === 'nixpkgs' ? 'with nixpkgs' : "from this machine's own Node and C library";
  console.log(`✅ Echo service built ${from}: ${echo.storePath}`);

  const env = { XDG_CONFIG_HOME: dev.configDir };
  const variables = [`NATS_URL=${dev.url}`, `NATS_JWT=${await dev.echoServiceJwt()}`];
  await timings.measure('nex devrun', () =>
    nex(['--context', 'ExpAdmin', 'devrun', echo.storePath, ...variables], { env, signal }),
  );
  await timings.measure('nex workload list', () => nex(['--context', 'ExpAdmin', 'workload', 'list'], { env, signal }));

  const nc = await connectNats({ context: 'ExpAdmin', configDir: dev.configDir });
  try {
    await timings.measure('micro services and request', () => askEcho(nc));
  } finally {
    await nc.close();
  }
  console.log(whatNext(dev, echo.storePath));
}

async function startNode(dev: DevServices, logFile: string) {
  const daemon = await startDaemon(
    [
      '--context',
      'ExpNode',
      'node',
      'up',
      '--node-name',
      'dev',
      '--state-dir',
      join(dev.dataDir, 'node'),
      '--until-stdin-ends',
    ],
    {
      env: {
        XDG_CONFIG_HOME: dev.configDir,
        NEX_ISSUER_SIGNING_KEY: dev.accountSigningKeySeedFile,
        NEX_ISSUER_ROOT_ACCOUNT: dev.accountPublicKey,
      },
      logFile,
      ready: 'nex node ready',
    },
  );
  return { ...daemon, id: String(daemon.readyLine['id']) };
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

function whatNext(dev: DevServices, storePath: string): string {
  const context = `XDG_CONFIG_HOME=${show(dev.configDir)} npx nex --context ExpAdmin`;
  return [
    '\nWhat to try next, in another terminal in this folder:',
    `  ${context} workload list`,
    `  ${context} logs`,
    `  ${context} node list`,
    `  ${context} devrun ${storePath} --name second NATS_URL=${dev.url} NATS_JWT="$(sed -n 2p ${show(dev.credsFile('EchoService'))})"`,
    '  npx nex --help',
  ].join('\n');
}

function show(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

try {
  await main();
} catch (error) {
  printError(error);
  process.exitCode = exitCode(error);
}
