import type { NexClient, WorkloadSummary } from '@nex-nix/protocol';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';

/** The workloads that an id or a name stands for; those of the id alone when there are such. None is an empty list. */
export async function findWorkloads(context: Context, client: NexClient, text: string): Promise<WorkloadSummary[]> {
  const { signal } = context;
  const { workloads, errors } = await client.listWorkloads({ filter: [text], signal });
  // A Go node ignores what it does not know of a filter; and a node that cannot list must not hide what is there.
  const byId = workloads.filter(({ id }) => id === text);
  const found = byId.length > 0 ? byId : workloads.filter(({ name }) => name === text);
  if (found.length === 0 && errors[0] !== undefined) throw errors[0];
  return found;
}

/**
 * The one workload of an id or name.
 *
 * @throws {CliError} CLI_WORKLOAD_NOT_FOUND, CLI_WORKLOAD_AMBIGUOUS
 */
export async function findWorkload(context: Context, client: NexClient, text: string): Promise<WorkloadSummary> {
  const [first, ...others] = await findWorkloads(context, client, text);
  if (first === undefined) throw workloadNotFound(context, text);
  if (others.length === 0) return first;
  const which = [first, ...others].map(
    ({ id, namespace }) => `${id}${namespace === undefined ? '' : ` (${namespace})`}`,
  );
  throw new CliError(
    'CLI_WORKLOAD_AMBIGUOUS',
    `Cannot tell which workload "${text}" is: ${which.length} have that name`,
    {
      hint: `Give the id of one: ${which.join(', ')}`,
    },
  );
}

export function workloadNotFound({ namespace }: Context, text: string): CliError {
  return new CliError(
    'CLI_WORKLOAD_NOT_FOUND',
    `Cannot find workload "${text}": no node runs it in namespace "${namespace}"`,
    {
      hint: 'See what runs: nex workload list',
    },
  );
}
