import {
  AuthorizationError,
  type ConnectionOptions,
  type NatsConnection,
  TimeoutError,
  UserAuthenticationExpiredError,
} from '@nats-io/nats-core';
import { connect } from '@nats-io/transport-node';
import { authentication } from './authentication.ts';
import { ContextError } from './context-error.ts';
import { applyJetstreamDomain } from './jetstream-domain.ts';
import { natsContext, type NatsContext } from './nats-context.ts';
import { filePath } from './secret-source.ts';
import { parseServerUrls } from './server-url.ts';

export interface ConnectOptions {
  /** Name of the connection, as the server's monitoring shows it. */
  name?: string | undefined;
  /** How long the first connection may take, in milliseconds. @default 5000 */
  timeoutMs?: number | undefined;
  /** Whether a lost connection is made again, for ever and also after the server refused it for a while. @default true */
  reconnect?: boolean | undefined;
  /** Gives up the first connection. */
  signal?: AbortSignal | undefined;
}

/**
 * Connects as a context says. The creds file is read again at each reconnect.
 *
 * Errors: `CONTEXT_UNREACHABLE`, `CONTEXT_REFUSED`, `CONTEXT_CREDENTIALS`, `CONTEXT_UNSUPPORTED`.
 */
export async function connectContext(
  context: Partial<NatsContext>,
  options: ConnectOptions = {},
): Promise<NatsConnection> {
  options.signal?.throwIfAborted();
  const full = natsContext(context);
  const { servers, userInfo } = parseServerUrls(full.url);
  const { authenticators, who } = authentication(full, userInfo);
  const tls = tlsOptions(full);
  const { timeoutMs = 5000, reconnect = true } = options;
  const attempt = connect({
    servers,
    authenticator: authenticators,
    timeout: timeoutMs,
    reconnect,
    maxReconnectAttempts: reconnect ? -1 : 0,
    ignoreAuthErrorAbort: reconnect,
    // The client would make a stack trace for each request, which takes longer than to send it.
    noAsyncTraces: true,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(full.inbox_prefix === '' ? {} : { inboxPrefix: full.inbox_prefix }),
    ...(tls === undefined ? {} : { tls }),
  });
  try {
    const nc = await orGiveUp(attempt, timeoutMs, options.signal);
    applyJetstreamDomain(nc, full);
    return nc;
  } catch (error) {
    options.signal?.throwIfAborted();
    throw explain(error, { servers, who, context: full.name, timeoutMs });
  }
}

/**
 * The client has no way to give up a dial, and its timeout counts for each address anew. So the caller stops waiting,
 * and a connection that comes about all the same is closed.
 */
async function orGiveUp(
  attempt: Promise<NatsConnection>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<NatsConnection> {
  const limit = AbortSignal.timeout(timeoutMs);
  const stop = signal === undefined ? limit : AbortSignal.any([signal, limit]);
  const gaveUp = Promise.withResolvers<never>();
  const onAbort = () => gaveUp.reject(stop.reason);
  stop.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([attempt, gaveUp.promise]);
  } catch (error) {
    attempt.then(
      (nc) => nc.close(),
      () => undefined,
    );
    throw error;
  } finally {
    stop.removeEventListener('abort', onAbort);
  }
}

function tlsOptions(context: NatsContext): ConnectionOptions['tls'] {
  const { cert, key, ca } = context;
  if ((cert === '') !== (key === '')) {
    const [set, missing] = cert === '' ? ['key', 'cert'] : ['cert', 'key'];
    throw new ContextError('CONTEXT_INVALID', `Cannot use the field "${set}" of the context: "${missing}" is not set`, {
      hint: 'Set both cert and key, or none',
    });
  }
  for (const field of ['socks_proxy', 'windows_cert_store'] as const) {
    if (context[field] === '') continue;
    throw new ContextError(
      'CONTEXT_UNSUPPORTED',
      `Cannot use the field "${field}" of the context: it is not supported`,
      {
        hint: `Remove "${field}" from the context`,
      },
    );
  }
  if (cert === '' && ca === '' && !context.tls_first) return undefined;
  return {
    ...(cert === '' ? {} : { certFile: filePath('cert', cert), keyFile: filePath('key', key) }),
    ...(ca === '' ? {} : { caFile: filePath('ca', ca) }),
    ...(context.tls_first ? { handshakeFirst: true } : {}),
  };
}

interface Attempt {
  servers: string[];
  who: string | undefined;
  context: string;
  timeoutMs: number;
}

function explain(error: unknown, { servers, who, context, timeoutMs }: Attempt): unknown {
  if (!(error instanceof Error)) return error;
  const where = servers.join(', ');
  if (error instanceof AuthorizationError || error instanceof UserAuthenticationExpiredError) {
    const user = who === undefined ? 'a client without credentials or with unnamed ones' : `the user "${who}"`;
    const named = context === '' ? user : `${user} of the context "${context}"`;
    return new ContextError('CONTEXT_REFUSED', `Cannot connect to NATS at ${where}: the server refuses ${named}`, {
      hint: 'Check that the credentials belong to this server and have not expired',
      cause: error,
    });
  }
  const timedOut = error instanceof TimeoutError || error.name === 'TimeoutError';
  const why = timedOut ? `no answer within ${timeoutMs} ms` : reason(error);
  return new ContextError('CONTEXT_UNREACHABLE', `Cannot reach NATS at ${where}: ${why}`, {
    hint: 'Check that a server runs there: nex dev starts one on this machine',
    cause: error,
  });
}

function reason(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the name of the host is not known';
  return error.message === '' ? 'the connection was closed' : error.message;
}
