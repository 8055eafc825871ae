import { once } from 'node:events';
import { join, resolve } from 'node:path';
import type { DevEvent } from '@nex-nix/devenv';
import { toPublicError } from '@nex-nix/errors';
import { Command } from 'commander';
import { action, type Context } from '../context.ts';
import { positive } from '../parse.ts';

interface Options {
  dataDir: string;
  port?: number;
}

export const dev = (): Command =>
  new Command('dev')
    .description('Run local NATS services: server with JetStream, operator, accounts, contexts')
    .option('--data-dir <folder>', 'where everything is kept', '.data')
    .option(
      '--port <port>',
      'port of the NATS server; default: 4222, or a free one',
      positive('a port', { whole: true }),
    )
    .action(
      action<Options>(async (context, { dataDir, port }) => {
        const { DevServices } = await import('@nex-nix/devenv');
        await using services = await DevServices.start({
          dataDir: resolve(dataDir),
          port,
          signal: context.signal,
          natsServer: process.env['NEX_NATS_SERVER'],
          onEvent: (event) => say(context, event),
        });
        context.say(
          [
            `NATS server ready at ${services.url}`,
            'Contexts Sys, ExpAdmin and ExpNode; in another terminal:',
            `  export XDG_CONFIG_HOME=${services.configDir}`,
            'To run a node there, which makes credentials for its workloads:',
            `  export NEX_ISSUER_SIGNING_KEY=${services.accountSigningKeySeedFile}`,
            `  export NEX_ISSUER_ROOT_ACCOUNT=${services.accountPublicKey}`,
            `  nex --context ExpNode node up --state-dir ${join(services.dataDir, 'node')}`,
            'Ctrl-C stops it',
          ].join('\n'),
        );
        if (!context.signal.aborted) await once(context.signal, 'abort');
        return undefined;
      }),
    );

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
  }
}
