import { Command } from 'commander';
import { action } from '../context.ts';
import { findWorkload } from '../find-workload.ts';
import { parseTags } from '../parse.ts';

interface Options {
  tags?: Record<string, string>;
  stop?: boolean;
}

export const workloadClone = (): Command =>
  new Command('clone')
    .alias('cp')
    .alias('copy')
    .description('Start a workload once more, perhaps elsewhere; its sealed environment is sealed anew')
    .argument('<workload>', 'id or name, as printed by nex workload list')
    .option('--tags <tags>', 'only on a node with all these tags: k=v;k2=v2', parseTags)
    .option('--stop', 'stop the original when the clone was accepted')
    .addHelpText('after', '\nExample:\n  nex workload clone --stop --tags nex.node=other op0YSWgf7ZtO84ojwli19c')
    .action(
      action<Options>(async (context, { tags = {}, stop = false }, text = '') => {
        const { client } = await context.client();
        const original = await findWorkload(context, client, text);
        const namespace = original.namespace ?? context.namespace;
        const clone = await client.cloneWorkload(original.id, { namespace, tags, stop, signal: context.signal });
        const { id, name } = clone;
        const lines = [`Workload ${name} [${id}] successfully started`];
        if (stop) lines.push(`Original workload [${original.id}] stopped`);
        return { value: { id, name }, text: lines.join('\n') };
      }),
    );
