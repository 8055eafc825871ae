import { ensureCacheSecrets } from './cache-secrets.ts';
import { CacheService } from './cache-service.ts';
import type { ServiceName } from '../dev-controls.ts';
import type { DevServicesOptions } from '../dev-options.ts';
import { devPaths } from '../dev-paths.ts';
import { readPorts } from './dev-ports.ts';
import type { Identities } from '../nsc/identities.ts';
import { issuerEnvironment } from './issuer.ts';
import { NatsService } from './nats-service.ts';
import { NodeService } from './node-service.ts';
import type { NscStore } from '../nsc/nsc-store.ts';
import { choosePort } from './ports.ts';
import type { OnLine } from '../supervisor/service.ts';

const NATS_PORT = 4222;
const MONITOR_PORT = 8222;
const CACHE_PORT = 8080;

/** The services that are processes. */
export interface ChosenServices {
  nats: NatsService;
  cache: { service: CacheService; publicKey: string } | undefined;
  node: NodeService | undefined;
}

/** What is there before any service. */
export interface Ground {
  dataDir: string;
  binary: string;
  store: NscStore;
  identities: Identities;
  lines: (service: ServiceName) => OnLine;
}

/** What the options ask for, on ports that are free. */
export async function chooseServices(options: DevServicesOptions, ground: Ground): Promise<ChosenServices> {
  const { command, cache: wantsCache = command !== undefined, node: wantsNode = false } = options;
  const { dataDir, store, identities, lines } = ground;
  if (command === undefined && (wantsCache || wantsNode))
    throw new TypeError('A cache and a node need the command that runs nex');
  const last = await readPorts(dataDir);
  const publicKey = wantsCache || wantsNode ? await ensureCacheSecrets(dataDir) : undefined;
  const { publicKey: systemAccount, jwt: systemAccountJwt } = identities.system;
  const nats = new NatsService({
    binary: ground.binary,
    config: {
      folder: devPaths(dataDir).nats,
      port: await choosePort(options.port, { last: last.nats, usual: NATS_PORT }),
      monitorPort: await choosePort(options.monitorPort, { last: last.monitor, usual: MONITOR_PORT }),
      operatorFile: store.operatorFile,
      systemAccount,
      systemAccountJwt,
    },
    mayMove: { port: mayMove(options.port), monitorPort: mayMove(options.monitorPort) },
    onLine: lines('nats'),
  });
  if (command === undefined || publicKey === undefined) return { nats, cache: undefined, node: undefined };
  const cache = new CacheService({
    dataDir,
    command,
    port: wantsCache ? Math.max(0, await choosePort(options.cachePort, { last: last.cache, usual: CACHE_PORT })) : 0,
    mayMove: mayMove(options.cachePort),
    onLine: lines('cache'),
  });
  const node = new NodeService({
    dataDir,
    command,
    arguments: options.nodeArguments ?? [],
    environment: issuerEnvironment(store, identities),
    onLine: lines('node'),
  });
  return { nats, cache: wantsCache ? { service: cache, publicKey } : undefined, node: wantsNode ? node : undefined };
}

function mayMove(wanted: number | undefined): boolean {
  return wanted === undefined || wanted === 0;
}
