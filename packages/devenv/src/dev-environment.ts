import { resolve } from 'node:path';
import { CACHE_HOST, cachePublicKey } from './services/cache-secrets.ts';
import { OPERATOR } from './nsc/claims.ts';
import { devPaths } from './dev-paths.ts';
import { readPorts } from './services/dev-ports.ts';
import { issuerEnvironment, readIssuer } from './services/issuer.ts';
import { NscStore } from './nsc/nsc-store.ts';
import { serverPaths } from './services/server-config.ts';

/**
 * Variables that point `nats`, `nsc`, `nex` and scripts at the dev services of a data folder, running or not. What is not made yet is left out.
 *
 * @throws {DevError} DEVENV_STORE_INVALID, DEVENV_CACHE_INVALID
 */
export async function devEnvironment(dataDir: string): Promise<Record<string, string>> {
  const folder = resolve(dataDir);
  const paths = devPaths(folder);
  const [store, ports, publicKey] = await Promise.all([
    NscStore.open(paths.nsc, OPERATOR),
    readPorts(folder),
    cachePublicKey(folder),
  ]);
  const issuer = await readIssuer(store);
  return {
    NATS_HOME: paths.nats,
    NATS_JWT_DIR: serverPaths(paths.nats).jwt,
    NSC_HOME: store.root,
    NKEYS_PATH: store.keystore,
    XDG_CONFIG_HOME: folder,
    ...(ports.nats === undefined ? {} : { NATS_URL: `nats://127.0.0.1:${ports.nats}` }),
    ...(issuer === undefined ? {} : issuerEnvironment(store, issuer)),
    ...(publicKey === undefined
      ? {}
      : {
          BINARY_CACHE_DATA: paths.cache,
          ...(ports.cache === undefined ? {} : { BINARY_CACHE_URL: `http://${CACHE_HOST}:${ports.cache}` }),
          BINARY_CACHE_PUBLIC_KEY: publicKey,
          BINARY_CACHE_SECRET_KEY_FILE: paths.cacheKey,
          BINARY_CACHE_TOKEN_FILE: paths.cacheToken,
          BINARY_CACHE_NETRC: paths.cacheNetrc,
        }),
  };
}
