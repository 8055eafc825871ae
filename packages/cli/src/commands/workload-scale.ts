import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { follow, openDeployments } from '../deployments.ts';

export const workloadScale = (): Command =>
  new Command('scale')
    .description('Change how many replicas of a workload are kept')
    .argument('<name>', 'as printed by nex workload status')
    .argument('<replicas>', 'how many; 0 stops all of them and remembers how to start them')
    .option('--wait', 'return when they run', true)
    .option('--no-wait', 'return at once')
    .addHelpText('after', '\nExample:\n  nex workload scale web 5')
    .action(
      action<{ wait: boolean }>(async (context, { wait }, name = '', replicas = '') => {
        if (!/^\d{1,5}$/.test(replicas)) {
          throw new CliError('CLI_USAGE', `Cannot take "${replicas}" for a number of replicas: write a whole one`);
        }
        const { nc } = await context.client();
        const deployments = await openDeployments(context, nc);
        const deployment = await deployments.scale(name, Number(replicas));
        return follow(context, { deployments, deployment, wait });
      }),
    );
