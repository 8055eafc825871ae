import { Command } from 'commander';
import { action } from '../context.ts';
import { table } from '../output.ts';
import { friendlyDuration, parseTags } from '../parse.ts';

export const nodeList = (): Command =>
  new Command('list')
    .alias('ls')
    .description('List the nodes that answer')
    .option('--filter <tags>', 'only nodes with all these tags: k=v;k2=v2', parseTags)
    .addHelpText('after', '\nExample:\n  nex node list --filter region=lab')
    .action(
      action<{ filter?: Record<string, string> }>(async (context, { filter }) => {
        const { client } = await context.client();
        const { nodes, errors } = await client.pingNodes({
          signal: context.signal,
          ...(filter === undefined ? {} : { filter }),
        });
        for (const error of errors) context.say(`warning: ${error.message}`);
        const rows = nodes
          .map((node) => [
            node.tags['nex.nexus'] ?? '[unknown]',
            `${node.node_id}${node.tags['nex.lameduck'] === 'true' ? '*' : ''}`,
            node.tags['nex.node'] ?? '[unknown]',
            node.version,
            friendlyDuration(Date.now() - Date.parse(node.start_time)),
            node.state,
            String(node.agent_count),
          ])
          .sort((a, b) => `${a[0]} ${a[2]}`.localeCompare(`${b[0]} ${b[2]}`));
        const head = ['Nexus', 'ID (* = Lameduck Mode)', 'Name', 'Version', 'Uptime', 'State', 'Running Agents'];
        return { value: nodes, text: rows.length === 0 ? 'No nodes found' : table('Nex Nodes', head, rows) };
      }),
    );
