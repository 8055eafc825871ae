import { Command } from 'commander';
import { action } from '../context.ts';
import { follow, openDeployments } from '../deployments.ts';
import { positive } from '../parse.ts';

export const workloadRollback = (): Command =>
  new Command('rollback')
    .description('Bring back an earlier revision of a workload whose replicas are kept')
    .argument('<name>', 'as printed by nex workload status')
    .option(
      '--to <revision>',
      'which; default: the one that ran before',
      positive('the number of a revision', { whole: true }),
    )
    .option('--wait', 'return when it runs', true)
    .option('--no-wait', 'return at once')
    .addHelpText('after', '\nExample:\n  nex workload rollback web --to 2')
    .action(
      action<{ to?: number; wait: boolean }>(async (context, { to, wait }, name = '') => {
        const { nc } = await context.client();
        const deployments = await openDeployments(context, nc);
        const deployment = await deployments.rollback(name, { to });
        return follow(context, { deployments, deployment, wait });
      }),
    );
