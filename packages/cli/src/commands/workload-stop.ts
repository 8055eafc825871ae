import type { StopWorkloadResponse } from '@nex-nix/protocol';
import { Command } from 'commander';
import { action } from '../context.ts';
import { findWorkload, findWorkloads, workloadNotFound } from '../find-workload.ts';

export const workloadStop = (): Command =>
  new Command('stop')
    .alias('undeploy')
    .description('Stop a workload; returns when nothing of it is alive')
    .argument('<workload>', 'id or name, as printed by nex workload list')
    .option('--all', 'stop all workloads of that name')
    .addHelpText('after', '\nExamples:\n  nex workload stop echo\n  nex stop op0YSWgf7ZtO84ojwli19c')
    .action(
      action<{ all?: boolean }>(async (context, { all = false }, text = '') => {
        const { client } = await context.client();
        const found = all ? await findWorkloads(context, client, text) : [await findWorkload(context, client, text)];
        if (found.length === 0) throw workloadNotFound(context, text);
        const replies: StopWorkloadResponse[] = [];
        for (const { id } of found) replies.push(await client.stopWorkload(id, { signal: context.signal }));
        return {
          // As Go nex prints one; a list only where several were asked for.
          value: all ? replies : replies[0],
          text: found.map(({ id }) => `Workload ${id} successfully stopped`).join('\n'),
        };
      }),
    );
