import type { NatsConnection } from '@nats-io/nats-core';
import type { Deployment, Deployments, DeploymentStatus, DeploymentView, Strategy } from '@nex-nix/controller';
import type { WorkloadToPlace } from '@nex-nix/protocol';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';
import { type Result, table } from './output.ts';

/** How long a change may take, in milliseconds. */
const SETTLE_TIMEOUT = 30 * 60_000;

export interface StartDeploymentOptions {
  replicas: number;
  strategy: Strategy;
  /** Wait until all of them run. */
  wait: boolean;
}

/**
 * Keeps replicas of a workload running: makes a deployment, or changes the one of that name.
 *
 * @throws {CliError} CLI_USAGE, CLI_WORKLOAD_FAILED, CLI_WORKLOAD_TIMEOUT, CLI_INTERRUPTED; {ControllerError}
 */
export async function startDeployment(
  context: Context,
  nc: NatsConnection,
  workload: WorkloadToPlace,
  { replicas, strategy, wait }: StartDeploymentOptions,
): Promise<Result> {
  const { name, type, lifecycle, runRequest, environment, description = '', tags = {}, needs } = workload;
  if (lifecycle !== 'service') {
    throw new CliError('CLI_USAGE', `Cannot keep replicas of "${name}": a ${lifecycle} ends, only a service is kept`);
  }
  if (workload.allowClearEnvironment === true) {
    const message = `Cannot keep replicas of "${name}" with an environment in clear: it is stored sealed, and sent sealed`;
    throw new CliError('CLI_USAGE', message, { hint: 'Leave --allow-clear-environment out' });
  }
  const deployments = await openDeployments(context, nc);
  const content = { type, runRequest, description, tags, ...(needs === undefined ? {} : { needs }) };
  await requireController(deployments, name, context.signal);
  const deployment = await deployments.apply({
    ...content,
    name,
    replicas,
    strategy,
    ...(environment === undefined ? {} : { environment }),
  });
  return follow(context, { deployments, deployment, wait });
}

/** The deployments of the namespace. */
export async function openDeployments(context: Context, nc: NatsConnection): Promise<Deployments> {
  const { Deployments } = await import('@nex-nix/controller');
  return new Deployments(nc, { namespace: context.namespace });
}

/** What is asked for would be stored, and nobody would do it. */
async function requireController(deployments: Deployments, name: string, signal: AbortSignal): Promise<void> {
  if (await deployments.hasController(signal)) return;
  const { ControllerError } = await import('@nex-nix/controller');
  throw new ControllerError('CONTROLLER_NONE', `Cannot keep replicas of "${name}": no controller answers`, {
    hint: 'Every node is one where there is JetStream: nex node up',
  });
}

export interface Change {
  deployments: Deployments;
  deployment: Deployment;
  wait: boolean;
}

/**
 * Shows how a change gets on until it is done; without `wait` returns at once.
 *
 * @throws {CliError} CLI_WORKLOAD_FAILED with the reason when it was rolled back, or does not get up
 */
export async function follow(context: Context, { deployments, deployment, wait }: Change): Promise<Result> {
  const { name, revision, replicas } = deployment;
  if (!wait) {
    const text = `Workload ${name}: ${replicas} ${plural(replicas)} of revision ${revision} asked for`;
    return { value: { name, revision, replicas }, text };
  }
  await requireController(deployments, name, context.signal);
  const { untilSettled } = await import('@nex-nix/controller');
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(SETTLE_TIMEOUT)]);
  let said = '';
  const onStatus = (status: DeploymentStatus): void => {
    const line = progressLine(status);
    if (line !== said) context.say(line);
    said = line;
  };
  const status = await untilSettled(deployments, deployment, { signal, onStatus });
  if (status === undefined) throw notSettled(context, name);
  if (status.phase === 'rolled-back') {
    throw new CliError(
      'CLI_WORKLOAD_FAILED',
      `Workload "${name}": revision ${revision} was rolled back to ${status.revision}: ${status.failed?.reason ?? 'it failed'}`,
      { hint: `nex workload status ${name}` },
    );
  }
  if (status.phase === 'degraded') {
    throw new CliError('CLI_WORKLOAD_FAILED', `Workload "${name}" does not get up: ${status.error ?? 'it fails'}`, {
      hint: `It is tried on; see nex workload status ${name}, or give it up: nex workload remove ${name}`,
    });
  }
  if (status.phase === 'removed') return { value: status, text: `Workload ${name} is removed` };
  return {
    value: status,
    text: `Workload ${name}: ${status.wanted} ${plural(status.wanted)} of revision ${revision} run`,
  };
}

/** `revision 2: 1 of 3 run, revision 1: 2 run`. */
function progressLine({ phase, revisions }: DeploymentStatus): string {
  const parts = [...revisions]
    .reverse()
    .map(({ revision, wanted, running }) =>
      wanted === 0 ? `revision ${revision}: ${running} run` : `revision ${revision}: ${running} of ${wanted} run`,
    );
  return `${phase}: ${parts.join(', ')}`;
}

function notSettled(context: Context, name: string): CliError {
  if (context.signal.aborted) {
    return new CliError('CLI_INTERRUPTED', `Stopped waiting for workload "${name}"; its controller goes on`);
  }
  const message = `Cannot see workload "${name}" settle: it was asked for, but is not done after ${SETTLE_TIMEOUT / 60_000} minutes`;
  return new CliError('CLI_WORKLOAD_TIMEOUT', message, { hint: `nex workload status ${name}` });
}

/** One line a deployment. */
export function describeAll(context: Context, views: readonly DeploymentView[]): string {
  if (views.length === 0) return 'No replicas are kept';
  const all = context.namespace === 'system';
  const head = ['Name', ...(all ? ['Namespace'] : []), 'Type', 'Revision', 'Replicas', 'Phase'];
  const rows = views.map(({ deployment, status }) => [
    deployment.name,
    ...(all ? [deployment.namespace] : []),
    deployment.revisions.at(-1)?.type ?? '',
    String(deployment.revision),
    `${running(status)} of ${deployment.replicas}`,
    status?.phase ?? 'not seen by a controller yet',
  ]);
  return table(`Replicated Workloads - ${context.namespace}`, head, rows);
}

/** All that is known of one, but what it was told. */
export function describeOne({ deployment, status }: DeploymentView): string {
  const { name, namespace, strategy, revision, revisions, replicas, policy } = deployment;
  const lines = [
    `Workload ${name} in namespace ${namespace}: ${status?.phase ?? 'not seen by a controller yet'}`,
    `  ${running(status)} of ${replicas} ${plural(replicas)} of revision ${status?.revision ?? revision} run, strategy ${strategy}`,
    `  An update starts up to ${policy.maxSurge} more, which have to run for ${policy.stableMs / 1_000} s`,
    ...(status?.failed === undefined ? [] : [`  Revision ${status.failed.revision} failed: ${status.failed.reason}`]),
    ...(status?.error === undefined ? [] : [`  Last error: ${status.error}`]),
  ];
  const known = revisions.map((one) => [
    one.revision === revision ? `${one.revision} (wanted)` : String(one.revision),
    one.created,
    storePathOf(one.runRequest),
    one.environment === undefined ? '' : 'sealed',
  ]);
  const parts = [lines.join('\n'), table('Revisions', ['Revision', 'Created', 'Store Path', 'Environment'], known)];
  if (status !== undefined && status.replicas.length > 0) {
    const rows = status.replicas.map(({ id, revision, node = '--', state, reason }) => [
      id,
      String(revision),
      node,
      reason === undefined ? state : `${state}: ${reason}`,
    ]);
    parts.push(table('Replicas', ['Id', 'Revision', 'Node', 'State'], rows));
  }
  return parts.join('\n');
}

/** What is printed as JSON: run requests may hold what was given in clear. */
export function publicView({ deployment, status }: DeploymentView): object {
  const revisions = deployment.revisions.map(({ environment, ...revision }) => ({
    ...revision,
    sealed_environment: environment !== undefined,
  }));
  return { ...deployment, revisions, status };
}

function storePathOf(runRequest: unknown): string {
  const path =
    typeof runRequest === 'object' && runRequest !== null && 'store_path' in runRequest ? runRequest.store_path : '';
  return typeof path === 'string' ? path : '';
}

function running(status: DeploymentStatus | undefined): number {
  return status?.replicas.filter(({ state }) => state === 'running').length ?? 0;
}

function plural(replicas: number): string {
  return replicas === 1 ? 'replica' : 'replicas';
}
