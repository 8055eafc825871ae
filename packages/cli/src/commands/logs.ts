import { Command } from 'commander';
import { action } from '../context.ts';

export const logs = (): Command =>
  new Command('logs')
    .description('Follow what workloads print')
    .argument('[id]', 'one workload only; default: all of the namespace')
    .action(
      action(async (context, _options, id) => {
        const nc = await context.connect();
        const { followLogs } = await import('@nex-nix/protocol');
        await using entries = followLogs(nc, {
          namespace: context.namespace,
          signal: context.signal,
          ...(id === undefined ? {} : { workloadId: id }),
        });
        context.say(`Following ${id ?? `all workloads of namespace ${context.namespace}`}; Ctrl-C ends`);
        for await (const entry of entries) {
          const text = Buffer.from(entry.data).toString();
          if (context.globals.json === true) {
            process.stdout.write(
              `${JSON.stringify({ workload: entry.workloadId, stream: entry.stream, line: text })}\n`,
            );
          } else process.stdout.write(`${id === undefined ? `${entry.workloadId} ` : ''}${text.replace(/\n?$/, '\n')}`);
        }
        return undefined;
      }),
    );
