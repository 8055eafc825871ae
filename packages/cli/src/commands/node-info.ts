import { Command } from 'commander';
import { action } from '../context.ts';
import { table } from '../output.ts';

export const nodeInfo = (): Command =>
  new Command('info')
    .description('Show a node and its nexlets')
    .argument('<node-id>', 'as printed by nex node list')
    .action(
      action(async (context, _options, nodeId = '') => {
        const { client } = await context.client();
        const info = await client.nodeInfo(nodeId);
        const facts = [
          ['Nexus', info.tags['nex.nexus'] ?? '[unknown]'],
          ['Node Name', info.tags['nex.node'] ?? '[unknown]'],
          [
            'Tags',
            Object.entries(info.tags)
              .map(([key, value]) => `${key}=${value}`)
              .sort()
              .join(', '),
          ],
          ['XKey', info.xkey],
          ['Uptime', info.uptime],
          ['Version', info.version],
        ];
        const agents = (info.node_agent_summaries ?? []).map((agent) => [
          `${agent.agent_health_stoplight} [${agent.agent_health}]`,
          agent.agent_id,
          `${agent.agent_summary.name} [${agent.agent_summary.version}]`,
          agent.agent_summary.type,
          agent.agent_summary.supported_lifecycles,
          String(agent.agent_summary.workload_count),
        ]);
        const head = ['Health', 'Id', 'Name', 'Workload Type', 'Supported Lifecycles', 'Running Workloads'];
        const text = [
          `Information about Node ${info.node_id}`,
          '',
          ...facts.map(([name = '', value = '']) => `  ${`${name}:`.padStart(10)} ${value}`),
          '',
          agents.length === 0 ? 'No agents running' : table('Running Agents', head, agents),
        ];
        return { value: info, text: text.join('\n') };
      }),
    );
