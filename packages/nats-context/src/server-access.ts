import { resolve } from 'node:path';
import type { NatsContext } from './nats-context.ts';
import { filePath } from './secret-source.ts';
import { parseServerUrls } from './server-url.ts';

/** How the servers of a context are reached, without who connects. */
export interface ServerAccess {
  /** All URLs, without credentials. */
  servers: string[];
  /** Absolute paths. */
  tls: { ca?: string; cert?: string; key?: string; first?: boolean };
}

/** What of a context somebody else needs who connects to the same servers as another user. */
export function serverAccess(context: NatsContext): ServerAccess {
  const { url, ca, cert, key, tls_first: first } = context;
  return {
    servers: parseServerUrls(url).servers,
    tls: {
      ...(ca === '' ? {} : { ca: resolve(filePath('ca', ca)) }),
      ...(cert === '' ? {} : { cert: resolve(filePath('cert', cert)) }),
      ...(key === '' ? {} : { key: resolve(filePath('key', key)) }),
      ...(first ? { first } : {}),
    },
  };
}
