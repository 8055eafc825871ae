import { Command } from 'commander';
import { action } from '../context.ts';
import { positive } from '../parse.ts';
import { parseSince } from '../units.ts';

interface Options {
  follow: boolean;
  since?: Date;
  tail?: number;
  name?: string;
}

export const events = (): Command =>
  new Command('events')
    .description('Print what has become of nodes, nexlets and workloads')
    .argument('[from]', 'namespace, node id or nexlet id; default: the namespace, and for system: all')
    .option('-f, --follow', 'go on with new events until Ctrl-C', false)
    .option('--since <time>', 'events since then: 10m, or 2026-01-31T12:00:00Z', parseSince)
    .option('--tail <count>', 'the last events only', positive('a number of events', { whole: true }))
    .option('--name <name>', 'only events of this name, for example WORKLOADSTOPPED')
    .addHelpText('after', '\nExamples:\n  nex events -f\n  nex events --since 1h --name WORKLOADSTOPPED')
    .action(
      action<Options>(async (context, { follow, since, tail, name }, origin) => {
        const nc = await context.connect({ daemon: follow });
        const { readEvents } = await import('@nex-nix/protocol');
        const from = origin ?? (context.namespace === 'system' ? undefined : context.namespace);
        await using feed = await readEvents(nc, {
          follow,
          signal: context.signal,
          ...(from === undefined ? {} : { from }),
          ...(name === undefined ? {} : { name }),
          ...(since === undefined ? {} : { since }),
          ...(tail === undefined ? {} : { tail }),
        });
        let count = 0;
        for await (const event of feed) {
          count++;
          const time = event.time?.toISOString();
          const line =
            context.globals.json === true
              ? JSON.stringify({
                  ...(time === undefined ? {} : { time }),
                  from: event.from,
                  name: event.name,
                  body: event.body,
                })
              : `${time ?? new Date().toISOString()} ${event.from} ${event.name} ${JSON.stringify(event.body)}`;
          process.stdout.write(`${line}\n`);
        }
        if (count === 0 && !follow) {
          context.say(
            'No events are kept. The stream NEX_FEED keeps them where it exists: nex dev or nex node up --retain makes it',
          );
        }
        return undefined;
      }),
    );
