import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import type { DevCache, DevEvent, DevServices } from '@nex-nix/devenv';
import { toPublicError } from '@nex-nix/errors';
import { Command } from 'commander';
import { action, type Context } from '../context.ts';
import { printResult } from '../output.ts';
import { parsePort } from '../parse.ts';

interface Options {
  dataDir: string;
  port?: number;
  cache: boolean;
  cachePort?: number;
}

export const dev = (): Command =>
  new Command('dev')
    .description('Run local NATS services: server with JetStream, operator, accounts, contexts, binary cache')
    .option('--data-dir <folder>', 'where everything is kept', '.data')
    .option('--port <port>', 'port of the NATS server; default: 4222, or a free one', parsePort)
    .option('--cache-port <port>', 'port of the binary cache, for Nix clients; default: 8080, or a free one', parsePort)
    .option('--no-cache', 'no binary cache but those of nodes')
    .addHelpText('after', '\nExamples:\n  nex dev\n  nex dev --data-dir ~/nex --port 4333 --cache-port 8090')
    .action(
      action<Options>(async (context, { dataDir, port, cache, cachePort }) => {
        const { DevServices } = await import('@nex-nix/devenv');
        await using services = await DevServices.start({
          dataDir: resolve(dataDir),
          port,
          cache,
          cachePort,
          signal: context.signal,
          natsServer: process.env['NEX_NATS_SERVER'],
          onEvent: (event) => say(context, event),
        });
        if (context.globals.json === true) printResult({ value: valueOf(services), text: '' }, true);
        context.say([...ofServer(services), ...ofCache(services.cache), 'Ctrl-C stops it'].join('\n'));
        if (!context.signal.aborted) await once(context.signal, 'abort');
        return undefined;
      }),
    );

/** For programs: where everything is. */
function valueOf(services: DevServices) {
  const { url, dataDir, configDir, accountPublicKey, accountSigningKeySeedFile, cacheKeyFile, cache } = services;
  const { url: cacheUrl, publicKey, tokenFile, netrcFile } = cache ?? {};
  return {
    url,
    dataDir,
    configDir,
    accountPublicKey,
    accountSigningKeySeedFile,
    ...(cache === undefined
      ? {}
      : { cache: { url: cacheUrl, publicKey, tokenFile, netrcFile, keyFile: cacheKeyFile } }),
  };
}

function ofServer(services: DevServices): string[] {
  const { cache, cacheKeyFile, dataDir } = services;
  const key = cache === undefined ? '' : ` --cache-key-file ${cacheKeyFile}`;
  return [
    `NATS server ready at ${services.url}`,
    'Contexts Sys, ExpAdmin and ExpNode; in another terminal:',
    `  export XDG_CONFIG_HOME=${services.configDir}`,
    'To run a node there, which makes credentials for its workloads, and takes them back:',
    `  export NEX_ISSUER_SIGNING_KEY=${services.accountSigningKeySeedFile}`,
    `  export NEX_ISSUER_ROOT_ACCOUNT=${services.accountPublicKey}`,
    `  export NEX_ISSUER_OPERATOR_SEED=${services.operatorSeedFile}`,
    '  export NEX_SYSTEM_CONTEXT=Sys',
    `  nex --context ExpNode node up --state-dir ${join(dataDir, 'node')}${key}`,
  ];
}

/** What to paste so that Nix uses the cache. */
function ofCache(cache: DevCache | undefined): string[] {
  if (cache === undefined) return [];
  const { url, publicKey, netrcFile } = cache;
  return [
    `Binary cache ready at ${url}; in nix.conf, or after "--option" of a nix command:`,
    `  extra-substituters = ${url}`,
    `  extra-trusted-public-keys = ${publicKey}`,
    'To copy into it and out of it:',
    `  nix copy --to "${url}?compression=zstd" --option netrc-file ${netrcFile} PATH`,
    `  nix copy --from ${url} --option extra-trusted-public-keys ${publicKey} PATH`,
  ];
}

function say(context: Context, event: DevEvent): void {
  const line = describe(event);
  if (line !== undefined) context.say(line);
}

/** A line for what is worth knowing; undefined for what is as it was the last time. */
function describe(event: DevEvent): string | undefined {
  switch (event.type) {
    case 'identity':
      return event.created ? `${event.kind} ${event.name} created` : undefined;
    case 'account':
      if (event.outcome === 'newer-on-server')
        return `account ${event.name}: the server has a newer one, left as it is`;
      return event.outcome === 'pushed' ? `account ${event.name} pushed to the server` : undefined;
    case 'context':
      return event.written ? `context ${event.name} written to ${event.file}` : undefined;
    case 'stream':
      return event.created ? `stream ${event.name} created` : undefined;
    case 'orphan-ended':
      return `ended a nats-server (process ${event.pid}) that an earlier run had left`;
    case 'server-started':
      return `nats-server ${event.restarted ? 'restarted' : 'started'} at ${event.url} (process ${event.pid})`;
    case 'server-ended':
      return `nats-server ended (${event.signal ?? `exit code ${event.code}`}); starting it again in ${event.restartInMs} ms`;
    case 'server-restart-failed':
      return `nats-server did not start: ${toPublicError(event.error).message}; trying again in ${event.restartInMs} ms`;
    case 'cache-started':
      return undefined;
    case 'cache-failure':
      return `${event.message} ${inspect(event.fields, { breakLength: Infinity })}: ${toPublicError(event.error).message}`;
  }
}
