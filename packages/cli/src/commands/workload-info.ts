import type { StartWorkloadRequest, WorkloadSummary } from '@nex-nix/protocol';
import { Command } from 'commander';
import { action } from '../context.ts';
import { facts } from '../facts.ts';
import { findWorkload } from '../find-workload.ts';
import { othersOf, usageOf } from '../workload-facts.ts';

export const workloadInfo = (): Command =>
  new Command('info')
    .description('Show all that is known of a workload')
    .argument('<workload>', 'id or name, as printed by nex workload list')
    .addHelpText('after', '\nExample:\n  nex workload info echo')
    .action(
      action(async (context, _options, text = '') => {
        const { client } = await context.client();
        const { signal } = context;
        const summary = await findWorkload(context, client, text);
        const namespace = summary.namespace ?? context.namespace;
        const [definition, { nodes }] = await Promise.all([
          client.getWorkload(summary.id, { namespace, signal }),
          client.pingNodes({ signal }),
        ]);
        const nodeId = summary.metadata?.['node_id'];
        const node = nodes.find(({ node_id: id }) => id === nodeId)?.tags['nex.node'];
        const request = definition === undefined ? undefined : withoutSecrets(definition.request);
        const value = {
          ...summary,
          namespace,
          ...(nodeId === undefined ? {} : { node: { id: nodeId, ...(node === undefined ? {} : { name: node }) } }),
          ...(request === undefined ? {} : { request }),
        };
        return { value, text: describe({ ...summary, namespace }, { nodeId, node, request }) };
      }),
    );

/** The start request as it may be shown: of the environment the names only, sealed or not. */
function withoutSecrets(
  request: StartWorkloadRequest,
): Omit<StartWorkloadRequest, 'run_request'> & { run_request: unknown } {
  return { ...request, run_request: hideEnvironment(parsed(request.run_request)) };
}

function hideEnvironment(runRequest: unknown): unknown {
  if (typeof runRequest !== 'object' || runRequest === null || Array.isArray(runRequest)) return runRequest;
  return Object.fromEntries(
    Object.entries(runRequest).map(([key, value]: [string, unknown]) => {
      if (key === 'encrypted_environment') return [key, 'sealed'];
      if (key !== 'environment' || typeof value !== 'object' || value === null) return [key, value];
      return [key, Object.fromEntries(Object.keys(value).map((name) => [name, '***']))];
    }),
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // Some nexlet's own affair; it may hold anything.
    return undefined;
  }
}

interface Whereabouts {
  nodeId: string | undefined;
  node: string | undefined;
  request: ReturnType<typeof withoutSecrets> | undefined;
}

function describe(summary: WorkloadSummary, { nodeId, node, request }: Whereabouts): string {
  const { metadata = {}, tags } = summary;
  const {
    store_path: storePath,
    sandbox,
    reason,
    exit_code: exitCode,
    restarts,
    health,
    health_failure: healthFailure,
    node_id: _,
    ...others
  } = metadata;
  const { next_start: nextStart } = metadata;
  const rows: (readonly [string, string | undefined])[] = [
    ['Name', summary.name],
    ['Description', request?.description],
    ['Namespace', summary.namespace],
    ['Type', summary.workload_type],
    ['Lifecycle', summary.workload_lifecycle],
    ['State', summary.workload_state],
    ['Reason', reason],
    ['Exit Code', exitCode],
    ['Restarts', restarts],
    ['Health', healthFailure === undefined ? health : `${health}: ${healthFailure}`],
    ['Next Start', nextStart],
    ['Start Time', summary.start_time],
    ['Execution Time', summary.runtime],
    ['Node', nodeId === undefined ? undefined : node === undefined ? nodeId : `${node} (${nodeId})`],
    ['Sandbox', sandbox],
    ['Store Path', storePath],
    ['Tags', pairs(tags)],
    ...usageOf(metadata),
    ['Metadata', pairs(othersOf(others))],
    [
      'Issuer',
      typeof request?.metadata?.['issuer'] === 'string' ? `${request.metadata['issuer']} (not verified)` : undefined,
    ],
    ['Start Request', request === undefined ? undefined : JSON.stringify(request.run_request, undefined, 2)],
  ];
  const known = rows.filter((row): row is [string, string] => row[1] !== undefined && row[1] !== '');
  return `Information about Workload ${summary.id}\n\n${facts(known)}`;
}

function pairs(map: Readonly<Record<string, string>>): string {
  return Object.entries(map)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join('\n');
}
