import type { NatsConnection } from '@nats-io/nats-core';
import type { FeedEvent, NexClient, PlacedWorkload, WorkloadToPlace } from '@nex-nix/protocol';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';
import { printLines } from './log-lines.ts';

export interface StartOptions {
  nc: NatsConnection;
  client: NexClient;
  /** Wait until it runs (default), or return as soon as a node has accepted it. */
  wait?: boolean;
  /** Print what it prints until it ends or the user does: the result comes then. */
  follow?: boolean;
  onAccepted?: (workload: PlacedWorkload) => void;
}

/** How long a workload may take from accepted to running, in milliseconds: its closure is fetched in this time. */
const START_TIMEOUT = 10 * 60_000;

/**
 * Starts a workload and waits until it runs; throws CLI_WORKLOAD_FAILED with the node's reason when it does not.
 * The outcome comes from the namespace's events, which are subscribed to before the workload is deployed; so are its logs.
 */
export async function startAndWait(
  context: Context,
  options: StartOptions,
  workload: WorkloadToPlace,
): Promise<PlacedWorkload> {
  const { nc, client, wait = true, follow = false, onAccepted } = options;
  const { signal, namespace } = context;
  const { followEvents, followLogs } = await import('@nex-nix/protocol');
  await using stack = new AsyncDisposableStack();
  // Iterated by hand: what comes after one event is looked at later.
  const events = stack.use(followEvents(nc, { from: namespace, signal }))[Symbol.asyncIterator]();
  const lines = follow ? stack.use(followLogs(nc, { namespace, signal })) : undefined;
  await nc.flush();
  const started = await client.startWorkload({ ...workload, signal });
  onAccepted?.(started);
  const printed = lines === undefined ? undefined : printLines(context, lines, { ids: [started.id], withId: false });
  // Nodes of Go Nex need not send events; their nexlets answer a start when the workload runs.
  const hasEvents = started.nodeId !== undefined;
  if ((wait || follow) && hasEvents) await untilRunning(events, started);
  if (printed === undefined || lines === undefined) return started;
  const ended = hasEvents ? await nextEvent(events, started, ['WORKLOADSTOPPED']) : await printed;
  // The lines came over the same connection, so they are here when an answer of the server is.
  if (ended !== undefined) await nc.flush();
  await lines[Symbol.asyncDispose]();
  await printed;
  if (ended === undefined) {
    context.say(`Workload "${started.name}" [${started.id}] goes on running: nex logs -f ${started.id}`);
    return started;
  }
  if (ended.error !== undefined) {
    const why = ended.error.message ?? `it ended with ${ended.error.code}`;
    throw new CliError('CLI_JOB_FAILED', `Workload "${started.name}" [${started.id}] has failed: ${why}`);
  }
  return started;
}

async function untilRunning(events: AsyncIterator<FeedEvent>, started: PlacedWorkload): Promise<void> {
  const which = `workload "${started.name}" [${started.id}]`;
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const minutes = START_TIMEOUT / 60_000;
    timeout.reject(
      new CliError(
        'CLI_WORKLOAD_TIMEOUT',
        `Cannot see ${which} run: it was accepted, but is not up after ${minutes} minutes`,
        { hint: `nex workload info ${started.id}` },
      ),
    );
  }, START_TIMEOUT);
  try {
    const names = ['WORKLOADSTARTED', 'WORKLOADSTOPPED'];
    const event = await Promise.race([nextEvent(events, started, names), timeout.promise]);
    if (event === undefined) {
      throw new CliError('CLI_INTERRUPTED', `Stopped waiting for ${which}; it goes on starting`);
    }
    if (event.name === 'WORKLOADSTOPPED') throw failed(started, event.error);
  } finally {
    clearTimeout(timer);
  }
}

interface WorkloadEvent {
  readonly name: string;
  /** In the body of WORKLOADSTOPPED, where the workload has failed. */
  readonly error?: { code?: string; message?: string };
}

/** The next event of one of these names about a workload; undefined when the command is to end. */
async function nextEvent(
  events: AsyncIterator<FeedEvent>,
  { id }: PlacedWorkload,
  names: readonly string[],
): Promise<WorkloadEvent | undefined> {
  for (;;) {
    const { value, done } = await events.next();
    if (done === true) return undefined;
    const body = value.body as { id?: string; error?: WorkloadEvent['error'] } | null;
    if (body?.id !== id || !names.includes(value.name)) continue;
    return { name: value.name, ...(body.error === undefined ? {} : { error: body.error }) };
  }
}

function failed({ name, id }: PlacedWorkload, error: WorkloadEvent['error']): CliError {
  return new CliError(
    'CLI_WORKLOAD_FAILED',
    `Workload "${name}" [${id}] did not start: ${error?.message ?? 'it ended at once, without an error'}`,
    { hint: `nex logs ${id}` },
  );
}
