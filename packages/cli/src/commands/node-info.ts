import type { NodeAgentSummary, NodeInfo } from '@nex-nix/protocol';
import { Command } from 'commander';
import { action } from '../context.ts';
import { facts } from '../facts.ts';
import { findNode } from '../find-node.ts';
import { table } from '../output.ts';

export const nodeInfo = (): Command =>
  new Command('info')
    .description('Show a node and its nexlets')
    .argument('<node>', 'id or name, as printed by nex node list')
    .option('--full', 'show all that is known of its nexlets')
    .addHelpText('after', '\nExample:\n  nex node info --full dev')
    .action(
      action<{ full?: boolean }>(async (context, { full = false }, text = '') => {
        const { client } = await context.client();
        const { signal } = context;
        const info = await client.nodeInfo(await findNode(context, client, text), { signal });
        return { value: info, text: describe(info, full) };
      }),
    );

function describe(info: NodeInfo, full: boolean): string {
  const tags = Object.entries(info.tags)
    .map(([key, value]) => `${key}=${value}`)
    .sort();
  const rows = [
    ['Nexus', info.tags['nex.nexus'] ?? '[unknown]'],
    ['Node Name', info.tags['nex.node'] ?? '[unknown]'],
    ['Tags', tags.join(', ')],
    ['XKey', info.xkey],
    ['Uptime', info.uptime],
    ['Version', info.version],
  ] as const;
  return [`Information about Node ${info.node_id}`, '', facts(rows), '', agentTable(info, full)].join('\n');
}

type Column = readonly [head: string, cell: (agent: NodeAgentSummary) => string];

const NAME: Column = ['Name', ({ agent_summary: { name, version } }) => `${name} [${version}]`];
const TYPE: Column = ['Workload Type', ({ agent_summary: { type } }) => type];
const WORKLOADS: Column = ['Running Workloads', ({ agent_summary }) => String(agent_summary.workload_count)];

const SHORT: readonly Column[] = [['', (agent) => agent.agent_health_stoplight], NAME, TYPE, WORKLOADS];
const FULL: readonly Column[] = [
  ['Health', (agent) => `${agent.agent_health_stoplight} [${agent.agent_health}]`],
  ['Id', (agent) => agent.agent_id],
  NAME,
  TYPE,
  ['Start Time', ({ agent_summary }) => agent_summary.start_time],
  ['State', ({ agent_summary }) => agent_summary.state],
  ['Supported Lifecycles', ({ agent_summary }) => agent_summary.supported_lifecycles],
  WORKLOADS,
  ['Last Heartbeat', (agent) => agent.agent_last_heartbeat_time],
];

function agentTable(info: NodeInfo, full: boolean): string {
  const agents = info.node_agent_summaries ?? [];
  if (agents.length === 0) return 'No agents running';
  const columns = full ? FULL : SHORT;
  const rows = agents.map((agent) => columns.map(([, cell]) => cell(agent)));
  return table(
    'Running Agents',
    columns.map(([head]) => head),
    rows,
  );
}
