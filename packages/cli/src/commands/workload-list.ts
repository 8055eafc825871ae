import { Command } from 'commander';
import { action } from '../context.ts';
import { table } from '../output.ts';

export const workloadList = (): Command =>
  new Command('list')
    .alias('ls')
    .description('List workloads')
    .option('--filter <names>', 'only these ids or names, separated by commas')
    .option('--show-metadata', 'show metadata and tags too')
    .action(
      action<{ filter?: string; showMetadata?: boolean }>(async (context, { filter, showMetadata = false }) => {
        const { client } = await context.client();
        const { workloads, errors } = await client.listWorkloads({ filter: filter?.split(',') ?? [] });
        for (const error of errors) context.say(`warning: ${error.message}`);
        const all = context.namespace === 'system';
        const head = ['Id', 'Name', ...(all ? ['Namespace'] : []), 'Start Time', 'Type', 'Lifecycle', 'State'];
        if (showMetadata) head.push('Metadata', 'Tags');
        const rows = workloads.map((workload) => [
          workload.id,
          workload.name,
          ...(all ? [workload.namespace ?? '--'] : []),
          workload.start_time,
          workload.workload_type,
          workload.workload_lifecycle,
          workload.metadata?.['reason'] === undefined
            ? workload.workload_state
            : `${workload.workload_state}: ${workload.metadata['reason']}`,
          ...(showMetadata ? [pairs(workload.metadata ?? {}), pairs(workload.tags)] : []),
        ]);
        const title = `Running Workloads - ${context.namespace}`;
        return { value: workloads, text: rows.length === 0 ? 'No workloads found' : table(title, head, rows) };
      }),
    );

function pairs(map: Record<string, string>): string {
  return Object.entries(map)
    .map(([key, value]) => `${key}=${value}`)
    .join('\n');
}
