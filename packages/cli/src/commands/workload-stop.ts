import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';

export const workloadStop = (): Command =>
  new Command('stop')
    .alias('undeploy')
    .description('Stop a workload; returns when nothing of it is alive')
    .argument('<id>', 'as printed by nex workload list')
    .action(
      action(async (context, _options, id = '') => {
        const { client } = await context.client();
        const reply = await client.stopWorkload(id);
        if (!reply.stopped) {
          throw new CliError(
            'CLI_WORKLOAD_NOT_FOUND',
            `Cannot stop workload "${id}": no node runs it in namespace "${context.namespace}"`,
            {
              hint: 'nex workload list',
            },
          );
        }
        return { value: reply, text: `Workload ${id} successfully stopped` };
      }),
    );
