import { join } from 'node:path';

/** Where dev services keep what is theirs, below the data folder. */
export function devPaths(dataDir: string) {
  const nats = join(dataDir, 'nats');
  const cache = join(dataDir, 'cache');
  const logs = join(dataDir, 'logs');
  return {
    /** Control socket of those that run. */
    socket: join(dataDir, 'dev.sock'),
    /** Ports of the last run. */
    ports: join(dataDir, 'ports.json'),
    logs,
    log: join(logs, 'dev.log'),
    /** Keys, JWTs and creds, as nsc has them. */
    nsc: join(dataDir, 'nsc'),
    nats,
    lock: join(nats, 'devenv.lock'),
    contexts: join(nats, 'context'),
    cache,
    cacheKey: join(cache, 'secret-key'),
    cacheToken: join(cache, 'token'),
    cacheNetrc: join(cache, 'netrc'),
    /** State folder of the node. */
    node: join(dataDir, 'node'),
  };
}
