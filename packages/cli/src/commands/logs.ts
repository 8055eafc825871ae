import { Command } from 'commander';
import { action } from '../context.ts';

export const logs = (): Command =>
  new Command('logs')
    .description('Print what workloads have printed, and follow them')
    .argument('[id]', 'one workload only; default: all of the namespace')
    .option('--no-follow', 'end after the lines that the stream NEX_FEED has kept')
    .action(
      action<{ follow: boolean }>(async (context, { follow }, id) => {
        const nc = await context.connect();
        const { readLogs } = await import('@nex-nix/protocol');
        await using entries = await readLogs(nc, {
          namespace: context.namespace,
          follow,
          signal: context.signal,
          ...(id === undefined ? {} : { workloadId: id }),
        });
        for await (const { workloadId, stream, data } of entries) {
          const line = Buffer.from(data).toString();
          if (context.globals.json === true) print(JSON.stringify({ workload: workloadId, stream, line }));
          else print(id === undefined ? `${workloadId} ${line}` : line);
        }
        return undefined;
      }),
    );

/** Nexlets of Go send pieces that may or may not end a line. */
function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}
