import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheError, CacheService, LocalChunks, NatsCache } from '@nex-nix/cache';
import { runController } from '@nex-nix/controller';
import type { Logger } from '@nex-nix/nexlet';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  LocalStore,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  type SecretKey,
} from '@nex-nix/nix';
import { NixNexlet } from '@nex-nix/nix-nexlet';
import { type EventTarget, startNode } from '@nex-nix/node';
import type { BridgeOptions } from './bridge-options.ts';
import { presentContextKeyFile, readCacheKey } from './cache-key-file.ts';
import { configuredNexlets } from './configured-nexlets.ts';
import type { Context } from './context.ts';
import { collectDisks } from './disk-collection.ts';
import { endWithStdin } from './end-with-stdin.ts';
import { createLogger } from './logger.ts';
import { MachineLog } from './machine-log.ts';
import type { MachineOptions } from './machine-options.ts';
import { type MetricsOptions, NodeMetrics } from './node-metrics.ts';
import { chooseMinter, type MinterOptions } from './node-minter.ts';
import { openRuntimes } from './node-runtimes.ts';
import { seedIn } from './secret-file.ts';
import { showingLogs } from './shown-logs.ts';
import { takeStateFolder } from './state-folder.ts';
import { cacheStorage, type StorageOptions } from './storage-options.ts';
import { VERSION } from './version.ts';
import { workloadDefaults, type WorkloadDefaultsOptions } from './workload-defaults.ts';

export interface NodeDaemonOptions
  extends BridgeOptions, MachineOptions, MetricsOptions, MinterOptions, StorageOptions, WorkloadDefaultsOptions {
  nodeName?: string;
  nexus: string;
  tags?: Record<string, string>;
  nodeSeed?: string;
  nodeXkeySeed?: string;
  state: '' | 'kv' | 'none';
  events: EventTarget | '';
  retain?: boolean;
  maxWorkloads: number;
  /** In milliseconds. */
  auctionTtl: number;
  agentRestartLimit: number;
  allowRemoteAgentRegistration?: boolean;
  showWorkloadLogs?: boolean;
  trustedPublicKeys?: string;
  cacheKeyFile?: string;
  allowUnlimited?: boolean;
  cgroupParent?: string;
  controller: boolean;
  onShutdown: 'stop' | 'leave';
  untilStdinEnds?: boolean;
}

/** Puts a node together from its parts and runs it until it is told to end; everything is closed in reverse order. */
export async function runNodeDaemon(context: Context, options: NodeDaemonOptions): Promise<void> {
  const logger = createLogger(context.globals);
  const { stateDir } = options;
  await using stack = new AsyncDisposableStack();
  const stop = new AbortController();

  // Disposed of last: until then a second signal counts.
  const secondSignal = stack.use(new SecondSignal(logger));
  // What is wrong with the options shows before anything is started.
  const localNexlets = configuredNexlets(context.config('agents'));
  const minter = await chooseMinter(context, options, { logger, stack });
  const seeds = await identitySeeds(options);

  stack.use(await takeStateFolder(stateDir));
  const metrics = stack.use(await NodeMetrics.start(options, logger));
  const machines = new MachineLog(logger);
  const { runtimes, sandbox, microvm } = await openRuntimes(options, { logger, stack, onEvent: machines.onEvent });
  const nc = await context.connect({ daemon: true });
  logger.info({ servers: nc.getServer() }, 'Established node NATS connection');
  tellConfiguration(context, logger);
  const store = stack.use(await LocalStore.open({ dir: join(stateDir, 'store') }));
  const keyFile = options.cacheKeyFile ?? (await presentContextKeyFile(context.connection));
  const secretKey = await cacheKey({ stateDir, keyFile }, logger);
  await warnOfOtherKey(nc, { secretKey, logger, signal: context.signal });
  const service = stack.use(await CacheService.start(nc, { secretKey, logger, ...cacheStorage(options) }));
  const cache = await NatsCache.open(nc, { signal: context.signal });
  // What is lost in the cache and is in the store of this node comes back by itself.
  stack.use(cache.heal(store, { logger }));
  const trustedKeys = [
    service.publicKey,
    ...(options.trustedPublicKeys?.split(/\s+/).filter(Boolean).map(parsePublicKey) ?? []),
  ];
  const local = stack.use(new LocalChunks(store));
  const nexlet = await NixNexlet.open({
    source: cache.reusing(local),
    pins: cache,
    store,
    runtimes,
    trustedKeys,
    stateDir,
    version: VERSION,
    logger: logger.child({ nexlet: 'nix' }),
    onClose: options.onShutdown,
    onFetched: metrics.onFetched,
    defaults: { ...workloadDefaults(options), sandbox },
  });
  logger.info({ public_xkey: nexlet.xkey }, 'Use this key as the recipient for encrypted run requests');
  machines.release();
  const node = stack.use(
    await startNode(nc, {
      name: options.nodeName ?? hostname(),
      nexus: options.nexus,
      tags: options.tags ?? {},
      stateDir,
      ...seeds,
      minter,
      nexlets: [options.showWorkloadLogs === true ? showingLogs(nexlet.definition, logger) : nexlet.definition],
      localNexlets,
      agentRestartLimit: options.agentRestartLimit,
      allowRemoteNexlets: options.allowRemoteAgentRegistration ?? false,
      maxWorkloads: options.maxWorkloads,
      auctionTtlMs: options.auctionTtl,
      state: options.state,
      events: options.events === '' ? 'none' : options.events,
      retain: options.retain ?? false,
      jetstreamReplicas: options.jetstreamReplicas,
      version: VERSION,
      logger,
      signal: context.signal,
    }),
  );
  metrics.add({ node, store, cacheService: service });
  // What still runs has taken its disks by now.
  if (microvm !== undefined) stack.use(collectDisks(microvm, { store, logger }));
  if (options.controller)
    stack.use(runController(nc, { id: node.id, xkey: node.xkeyPair, logger, replicas: options.jetstreamReplicas }));
  logger.info({ id: node.id, version: VERSION }, 'NATS execution engine awaiting commands');
  logger.info(
    { id: node.id, name: options.nodeName ?? hostname(), nexus: options.nexus, version: VERSION },
    'nex node ready',
  );
  if (options.untilStdinEnds === true) stack.use(endWithStdin(() => stop.abort()));
  await Promise.race([node.closed, untilAborted(AbortSignal.any([context.signal, stop.signal]))]);
  secondSignal.arm(() => node.abandon());
  logger.info({ id: node.id, workloads: options.onShutdown }, 'nex node stopping');
}

/** Who the node is, where its options say so. */
async function identitySeeds({ nodeSeed, nodeXkeySeed }: NodeDaemonOptions) {
  const seedOf = async (text: string | undefined, prefix: string) =>
    text?.includes('/') === true ? seedIn(text, prefix) : text;
  return { nodeSeed: await seedOf(nodeSeed, 'SN'), xkeySeed: await seedOf(nodeXkeySeed, 'SX') };
}

/** Which files the node's settings are from, and what in them is of earlier versions and has no meaning any more. */
function tellConfiguration(context: Context, logger: Logger): void {
  for (const file of context.configFiles.toReversed()) {
    logger.info({ config_path: file }, `Loaded node configuration from '${file}'`);
  }
  const idle = context.idleKeys;
  if (idle.length === 0) return;
  const named = idle.map(({ file, keys }) => `${keys.join(', ')} of "${file}"`).join('; ');
  logger.warn({ keys: idle.flatMap(({ keys }) => keys) }, `settings of earlier versions that have no effect: ${named}`);
}

/** A push goes to any of the services: with two keys, what one lets in is refused where the other one's is trusted. */
async function warnOfOtherKey(
  nc: NatsConnection,
  { secretKey, logger, signal }: { secretKey: SecretKey; logger: Logger; signal: AbortSignal },
): Promise<void> {
  const [own, other] = [formatPublicKey(publicKeyOf(secretKey)), await keyOfOthers(nc, signal)];
  if (other === undefined || other === own) return;
  logger.warn(
    { own, other },
    'another cache service of this account signs with another key, and nodes may refuse what it lets in: ' +
      'give all of them the same key by --cache-key-file',
  );
}

/** The key of a cache service that runs in the account; undefined when there is none yet. */
async function keyOfOthers(nc: NatsConnection, signal: AbortSignal): Promise<string | undefined> {
  try {
    return formatPublicKey((await NatsCache.open(nc, { signal })).publicKey);
  } catch (error) {
    if (error instanceof CacheError && error.code === 'CACHE_UNAVAILABLE') return undefined;
    throw error;
  }
}

/** The cache's signing key: from the file that was named, or of the context, else one of its own, made at the first start. */
async function cacheKey(
  { stateDir, keyFile }: { stateDir: string; keyFile: string | undefined },
  logger: Logger,
): Promise<SecretKey> {
  if (keyFile !== undefined) {
    logger.info({ file: keyFile }, 'the cache signs with this key');
    return readCacheKey(keyFile, (message) => logger.warn({ file: keyFile }, message));
  }
  const file = join(stateDir, 'cache/secret-key');
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const key = generateSecretKey(`nex-cache-${hostname()}`);
  try {
    await writeFile(file, formatSecretKey(key), { flag: 'wx', mode: 0o600 });
    return key;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return parseSecretKey((await readFile(file, 'utf8')).trim());
  }
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** One more signal while the node ends: it ends at once. Workloads go on, and the next node takes them over. */
class SecondSignal implements Disposable {
  readonly #logger: Logger;
  #abandon: () => void = () => undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** To be called when the first one has come. `abandon` ends what must not outlive this process. */
  arm(abandon: () => void): void {
    this.#abandon = abandon;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, this.#end);
  }

  [Symbol.dispose](): void {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, this.#end);
  }

  readonly #end = (signal: NodeJS.Signals): void => {
    this.#logger.warn({ signal }, 'a second signal: the node ends at once');
    this.#abandon();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
}
