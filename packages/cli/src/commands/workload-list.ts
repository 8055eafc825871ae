import type { WorkloadSummary } from '@nex-nix/protocol';
import { Command } from 'commander';
import { action, type Context } from '../context.ts';
import { table } from '../output.ts';
import { lifeOf } from '../workload-facts.ts';

interface Options {
  filter?: string;
  type?: string;
  showMetadata?: boolean;
}

export const workloadList = (): Command =>
  new Command('list')
    .alias('ls')
    .description('List workloads')
    .option('--filter <names>', 'only these ids or names, separated by commas')
    .option('--type <type>', 'only workloads of this type')
    .option('--show-metadata', 'show metadata and tags too')
    .addHelpText(
      'after',
      '\nExamples:\n  nex workload list\n  nex workload list --filter echo,web --show-metadata\n\nWith --json: an array for each node, of its workloads.',
    )
    .action(
      action<Options>(async (context, { filter, type, showMetadata = false }) => {
        const { client } = await context.client();
        const { signal } = context;
        const listed = await client.listWorkloads({ filter: filter?.split(',') ?? [], signal });
        for (const error of listed.errors) context.say(`warning: ${error.message}`);
        const workloads = listed.workloads.filter((workload) => type === undefined || workload.workload_type === type);
        return {
          value: byNode(workloads),
          text: workloads.length === 0 ? 'No workloads found' : tableOf(context, workloads, showMetadata),
        };
      }),
    );

/** The JSON of Go nex: an array for each node that has any. Nodes of Go do not say who they are: theirs are in one array. */
function byNode(workloads: readonly WorkloadSummary[]): WorkloadSummary[][] {
  return [...Map.groupBy(workloads, ({ metadata }) => metadata?.['node_id']).values()];
}

function tableOf({ namespace }: Context, workloads: readonly WorkloadSummary[], showMetadata: boolean): string {
  const all = namespace === 'system';
  const head = ['Id', 'Name', ...(all ? ['Namespace'] : [])];
  head.push('Start Time', 'Execution Time', 'Type', 'Lifecycle', 'State');
  if (showMetadata) head.push('Metadata', 'Tags');
  const rows = workloads.map((workload) => [
    workload.id,
    workload.name,
    ...(all ? [workload.namespace ?? '--'] : []),
    workload.start_time,
    workload.workload_lifecycle === 'function' ? workload.runtime : '--',
    workload.workload_type,
    workload.workload_lifecycle,
    stateOf(workload),
    ...(showMetadata ? [pairs(workload.metadata ?? {}), pairs(workload.tags)] : []),
  ]);
  return table(`Running Workloads - ${namespace}`, head, rows);
}

function stateOf({ workload_state: state, metadata }: WorkloadSummary): string {
  const reason = metadata?.['reason'];
  const life = lifeOf(metadata);
  return `${state}${life === '' ? '' : ` (${life})`}${reason === undefined ? '' : `: ${reason}`}`;
}

function pairs(map: Record<string, string>): string {
  return Object.entries(map)
    .map(([key, value]) => `${key}=${value}`)
    .join('\n');
}
