import { Command } from 'commander';
import { action } from '../context.ts';
import { follow, openDeployments } from '../deployments.ts';

export const workloadRemove = (): Command =>
  new Command('remove')
    .alias('rm')
    .description('Stop all replicas of a workload, and keep them no longer')
    .argument('<name>', 'as printed by nex workload status')
    .option('--wait', 'return when none is left', true)
    .option('--no-wait', 'return at once')
    .addHelpText('after', '\nExample:\n  nex workload remove web')
    .action(
      action<{ wait: boolean }>(async (context, { wait }, name = '') => {
        const { nc } = await context.client();
        const deployments = await openDeployments(context, nc);
        const deployment = await deployments.remove(name);
        if (wait) return follow(context, { deployments, deployment, wait });
        return { value: { name }, text: `Workload ${name}: its removal is asked for` };
      }),
    );
