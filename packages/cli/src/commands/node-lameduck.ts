import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { findNode } from '../find-node.ts';
import { parseTags } from '../parse.ts';
import { parseDuration } from '../units.ts';

interface Options {
  delay: number;
  tag?: Record<string, string>;
}

export const nodeLameduck = (): Command =>
  new Command('lameduck')
    .alias('down')
    .description('Take a node out of service: no new workloads, shutdown after a delay')
    .argument('<node>', 'id or name, as printed by nex node list')
    .option('--delay <duration>', 'time until it shuts down, for example 1m0s', parseDuration, 60_000)
    .option('--tag <tags>', 'only if the node has these tags: k=v', parseTags)
    .addHelpText('after', '\nExample:\n  nex node lameduck --delay 30s dev')
    .action(
      action<Options>(async (context, { delay, tag }, text = '') => {
        const { client } = await context.client();
        const { signal } = context;
        const nodeId = await findNode(context, client, text);
        const reply = await client.lameduck(nodeId, { delay, signal, ...(tag === undefined ? {} : { tag }) });
        if (!reply.success) {
          throw new CliError('CLI_NODE_REFUSED', `Node failed to enter lame duck mode: ${reply.message}`);
        }
        const at = new Date(Date.now() + delay).toISOString().replace(/\.\d+Z$/, 'Z');
        return {
          value: reply,
          text: `Node successfully commanded into lame duck mode. Workloads will begin shutting down at ${at}`,
        };
      }),
    );
