import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { describeAll, describeOne, openDeployments, publicView } from '../deployments.ts';

export const workloadStatus = (): Command =>
  new Command('status')
    .description('Show workloads whose replicas are kept: how many run, which revision, what went wrong')
    .argument('[name]', 'only this one, with its revisions and replicas')
    .addHelpText('after', '\nExamples:\n  nex workload status\n  nex workload status web')
    .action(
      action(async (context, _options, name) => {
        const { nc } = await context.client();
        const deployments = await openDeployments(context, nc);
        if (name === undefined) {
          const views = await deployments.list();
          return { value: views.map(publicView), text: describeAll(context, views) };
        }
        const view = await deployments.get(name);
        if (view !== undefined) return { value: publicView(view), text: describeOne(view) };
        throw new CliError(
          'CLI_WORKLOAD_NOT_FOUND',
          `Cannot find replicas of "${name}": none are kept in namespace "${context.namespace}"`,
          { hint: 'nex workload status; what runs once: nex workload list' },
        );
      }),
    );
