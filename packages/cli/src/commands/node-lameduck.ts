import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';

export const nodeLameduck = (): Command =>
  new Command('lameduck')
    .alias('down')
    .description('Take a node out of service: no new workloads, shutdown after a delay')
    .argument('<node-id>', 'as printed by nex node list')
    .option('--delay <duration>', 'time until it shuts down, for example 1m0s', '1m0s')
    .action(
      action<{ delay: string }>(async (context, { delay }, nodeId = '') => {
        const { parseGoDuration } = await import('@nex-nix/protocol');
        const delayMs = parseGoDuration(delay);
        const { client } = await context.client();
        const reply = await client.lameduck(nodeId, { delay: delayMs });
        if (!reply.success)
          throw new CliError('CLI_WORKLOAD_FAILED', `Node "${nodeId}" did not enter lame duck mode: ${reply.message}`);
        const at = new Date(Date.now() + delayMs).toISOString();
        return { value: reply, text: `Node successfully commanded into lame duck mode. It will shut down at ${at}` };
      }),
    );
