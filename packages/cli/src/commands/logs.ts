import type { NatsConnection } from '@nats-io/nats-core';
import type { LogEntry } from '@nex-nix/protocol';
import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { findWorkloads, workloadNotFound } from '../find-workload.ts';
import { printLines } from '../log-lines.ts';
import { positive } from '../parse.ts';
import { parseSince } from '../units.ts';

interface Options {
  follow: boolean;
  since?: Date;
  tail?: number;
  timestamps?: boolean;
}

export const logs = (): Command =>
  new Command('logs')
    .description('Print what workloads have printed')
    .argument('[workload]', 'id or name; default: all of the namespace')
    .option('-f, --follow', 'go on with new lines until Ctrl-C', false)
    .option('--no-follow', 'end after the lines that the stream NEX_FEED has kept (default)')
    .option('--since <time>', 'lines since then: 10m, or 2026-01-31T12:00:00Z', parseSince)
    .option('--tail <lines>', 'the last lines only', positive('a number of lines', { whole: true }))
    .option('--timestamps', 'put the time before each line')
    .addHelpText(
      'after',
      '\nExamples:\n  nex logs echo\n  nex logs -f --since 10m\n  nex logs --tail 20 op0YSWgf7ZtO84ojwli19c',
    )
    .action(
      action<Options>(async (context, options, text) => {
        const nc = await context.connect({ daemon: options.follow });
        const wanted = text === undefined ? undefined : await wantedIds(context, nc, text);
        const several = wanted === undefined || wanted.length > 1;
        const print = { withId: several, timestamps: options.timestamps ?? false };
        const feeds = (wanted ?? [{ id: undefined, namespace: context.namespace }]).map(async ({ id, namespace }) =>
          printLines(context, counted(await open(context, nc, { id, namespace, options })), print),
        );
        let lines = 0;
        async function* counted(entries: AsyncIterable<LogEntry>): AsyncGenerator<LogEntry> {
          for await (const entry of entries) {
            lines++;
            yield entry;
          }
        }
        await Promise.all(feeds);
        if (lines === 0 && !options.follow) {
          context.say(
            'No lines are kept. The stream NEX_FEED keeps them where it exists: nex dev or nex node up --retain makes it',
          );
        }
        return undefined;
      }),
    );

interface Wanted {
  readonly id: string;
  readonly namespace: string;
}

/** The form of the ids of workloads: what has ended is no longer listed, but its lines are kept. */
const WORKLOAD_ID = /^[0-9A-Za-z]{22}$/;

async function wantedIds(context: Context, nc: NatsConnection, text: string): Promise<Wanted[]> {
  const { client } = await context.client(nc);
  const found = await findWorkloads(context, client, text);
  if (found.length > 0) return found.map(({ id, namespace = context.namespace }) => ({ id, namespace }));
  if (WORKLOAD_ID.test(text)) return [{ id: text, namespace: context.namespace }];
  const { message } = workloadNotFound(context, text);
  throw new CliError('CLI_WORKLOAD_NOT_FOUND', message, {
    hint: 'Of a workload that has ended, give the id; see what runs: nex workload list',
  });
}

async function open(
  { signal }: Context,
  nc: NatsConnection,
  { id, namespace, options }: { id: string | undefined; namespace: string; options: Options },
) {
  const { readLogs } = await import('@nex-nix/protocol');
  const { follow, since, tail } = options;
  return readLogs(nc, {
    namespace,
    follow,
    signal,
    ...(id === undefined ? {} : { workloadId: id }),
    ...(since === undefined ? {} : { since }),
    ...(tail === undefined ? {} : { tail }),
  });
}
