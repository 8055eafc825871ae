import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Logger, UpstreamOptions } from '@nex-nix/cache';
import type { NatsConnection } from '@nats-io/nats-core';
import { Command, Option } from 'commander';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { endWithStdin, untilStdinEnds } from '../end-with-stdin.ts';
import { positive } from '../parse.ts';
import { readSecretFile } from '../secret-file.ts';
import { addStorageOptions, cacheStorage, type StorageOptions } from '../storage-options.ts';
import { parseBytes } from '../units.ts';

interface Options extends StorageOptions {
  listen: { host: string; port: number };
  tokenFile?: string;
  protectReads?: boolean;
  priority: number;
  compression: 'none' | 'zstd';
  maxUpload?: number;
  normaliseUploads?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  upstream?: string[];
  trustedPublicKeys?: string;
  serviceKeyFile?: string | true;
  untilStdinEnds?: boolean;
}

/** Shorter ones can be guessed. */
const TOKEN_MIN = 16;

export const cacheServe = (): Command => {
  const command = new Command('serve')
    .description('Serve the cache over HTTP, to every Nix client')
    .option('--listen <address>', 'host:port to listen on; port 0: a free one', parseAddress, {
      host: '127.0.0.1',
      port: 8080,
    })
    .option('--token-file <file>', 'a file with the token that who writes must show; without it the cache only reads')
    .option('--protect-reads', 'who reads must show the token as well')
    .option(
      '--priority <number>',
      'the lower, the earlier clients ask this cache',
      positive('a priority', { whole: true }),
      30,
    )
    .addOption(
      new Option('--compression <kind>', 'how NARs are sent').choices(['zstd', 'none']).default('zstd' as const),
    )
    .option('--max-upload <size>', 'how large an uploaded file may be, for example 8GiB', parseBytes)
    .option('--normalise-uploads', 'blank store hashes in what is uploaded: a rebuild then adds next to nothing')
    .option('--tls-cert <file>', 'serve HTTPS with this certificate, or chain of them, in PEM; needs --tls-key')
    .option('--tls-key <file>', 'the private key of the certificate, in PEM')
    .option('--upstream <url>', 'a binary cache to fetch from what is missing; may be given several times', append)
    .option('--trusted-public-keys <keys>', "keys that sign what upstreams have, in Nix's syntax")
    .option(
      '--service-key-file [file]',
      'be the service of the cache as well, which accepts and signs, with this key: where no node runs; default: that of the context',
    );
  return addStorageOptions(command)
    .addOption(untilStdinEnds())
    .addHelpText(
      'after',
      [
        '',
        'The token goes into the netrc-file of Nix: machine HOST login nex password TOKEN',
        '',
        'A cache needs its service, which every node has. Without any node, --service-key-file makes this command one. Give it',
        'and all nodes of the account the same key (nex node up --cache-key-file), as a client trusts one key for the whole cache.',
        '',
        'Examples:',
        '  nex cache serve',
        '  nex cache serve --listen 0.0.0.0:8080 --token-file token',
        '  nex cache serve --listen 0.0.0.0:8443 --tls-cert fullchain.pem --tls-key key.pem',
        '  nex cache serve --token-file token --service-key-file cache.key',
        '  nex cache serve --upstream https://cache.nixos.org \\',
        '    --trusted-public-keys cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
        '  nix copy --to "http://127.0.0.1:8080?compression=zstd" ./result',
        '  nix copy --from http://127.0.0.1:8080 /nix/store/…',
      ].join('\n'),
    )
    .action(
      action<Options>(async (context, options) => {
        const [token, tls, upstreams] = await Promise.all([
          readToken(options, (message) => context.say(message)),
          readTls(options),
          readUpstreams(options),
        ]);
        const nc = await context.connect({ daemon: true });
        const [{ CacheHttpServer }, { formatPublicKey }, { createLogger }] = await Promise.all([
          import('@nex-nix/cache'),
          import('@nex-nix/nix'),
          import('../logger.ts'),
        ]);
        const logger = createLogger(context.globals);
        await using _service = await startService(nc, options, { logger, context });
        await using server = await CacheHttpServer.start(nc, {
          ...options.listen,
          token,
          protectReads: options.protectReads,
          priority: options.priority,
          compression: options.compression,
          maxUploadSize: options.maxUpload,
          normaliseUploads: options.normaliseUploads,
          tls,
          upstreams: upstreams === undefined ? undefined : { ...upstreams, logger },
          logger,
          signal: context.signal,
        });
        const publicKey = formatPublicKey(server.publicKey);
        context.say(
          [
            `Binary cache at ${server.url}${token === undefined ? ', for reading only' : ''}`,
            `For nix.conf: extra-substituters = ${server.url}`,
            `              extra-trusted-public-keys = ${publicKey}`,
            'Ctrl-C stops it',
          ].join('\n'),
        );
        if (context.globals.json === true) logger.info({ url: server.url, publicKey }, 'binary cache ready');
        const stop = new AbortController();
        using _stdin = options.untilStdinEnds === true ? endWithStdin(() => stop.abort()) : undefined;
        const signal = AbortSignal.any([context.signal, stop.signal]);
        if (!signal.aborted) await once(signal, 'abort');
        return undefined;
      }),
    );
};

/** The service of the cache, where it was asked for. */
async function startService(
  nc: NatsConnection,
  options: Options,
  { logger, context }: { logger: Logger; context: Context },
): Promise<AsyncDisposable | undefined> {
  const { serviceKeyFile } = options;
  if (serviceKeyFile === undefined) return undefined;
  const [{ presentContextKeyFile, readCacheKey }, { CacheService }] = await Promise.all([
    import('../cache-key-file.ts'),
    import('@nex-nix/cache'),
  ]);
  const file = serviceKeyFile === true ? await presentContextKeyFile(context.connection) : serviceKeyFile;
  if (file === undefined) {
    throw new CliError('CLI_USAGE', 'Cannot be the service of the cache: the context has no key to sign with', {
      hint: 'Make one: nex cache keygen --name cache.example.org-1; or name a file: --service-key-file FILE',
    });
  }
  const secretKey = await readCacheKey(file, (message) => logger.info({ file }, message));
  return CacheService.start(nc, { secretKey, logger, signal: context.signal, ...cacheStorage(options) });
}

function append(url: string, urls: readonly string[] = []): string[] {
  const { protocol } = URL.parse(url) ?? {};
  if (protocol === 'http:' || protocol === 'https:') return [...urls, url];
  throw new CliError('CLI_USAGE', `Cannot take "${url}" for an upstream: write a URL that begins with http or https`);
}

function parseAddress(text: string): { host: string; port: number } {
  const [, host = '', digits = ''] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  if (bare !== '' && digits !== '' && port <= 65_535) return { host: bare, port };
  throw new CliError('CLI_USAGE', `Cannot listen on "${text}": write an address and a port, such as 127.0.0.1:8080`);
}

async function readToken(
  { tokenFile, protectReads = false }: Options,
  warn: (message: string) => void,
): Promise<string | undefined> {
  if (tokenFile === undefined) {
    if (!protectReads) return undefined;
    throw new CliError('CLI_USAGE', 'Cannot protect reads: --protect-reads needs --token-file');
  }
  const hint = `Make one: (umask 077; head -c 32 /dev/urandom | base64 > ${tokenFile})`;
  const token = await readSecretFile(tokenFile, { what: 'the token', hint, warn });
  if (token.length >= TOKEN_MIN && !/\s/.test(token)) return token;
  throw new CliError(
    'CLI_USAGE',
    `Cannot use the token in "${tokenFile}": it needs ${TOKEN_MIN} characters, no spaces`,
    { hint },
  );
}

async function readTls({ tlsCert, tlsKey }: Options): Promise<{ cert: string; key: string } | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new CliError('CLI_USAGE', 'Cannot serve HTTPS: --tls-cert and --tls-key are needed both');
  }
  const [cert, key] = await Promise.all([readPem('the certificate', tlsCert), readPem('the private key', tlsKey)]);
  return { cert, key };
}

async function readPem(what: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new CliError('CLI_USAGE', `Cannot read ${what} in "${file}": ${(cause as Error).message}`, { cause });
  }
}

async function readUpstreams({ upstream, trustedPublicKeys = '' }: Options): Promise<UpstreamOptions | undefined> {
  if (upstream === undefined) return undefined;
  const { parsePublicKey } = await import('@nex-nix/nix');
  const trustedKeys = trustedPublicKeys.split(/\s+/).filter(Boolean).map(parsePublicKey);
  return { urls: upstream, trustedKeys };
}
