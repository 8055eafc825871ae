import { setTimeout as delay } from 'node:timers/promises';
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

/** How often lists are looked at for a workload whose events may not come, in milliseconds. */
const LIST_INTERVAL = 1_000;
/** How long a workload may take from accepted to running, in milliseconds: its closure is fetched in this time. */
const START_TIMEOUT = 10 * 60_000;

/**
 * Starts a workload and waits until it runs; throws CLI_WORKLOAD_FAILED with the node's reason when it does not.
 * The outcome comes from the namespace's events, which are subscribed to before the workload is deployed, as are its logs; or
 * from the lists of the nodes, where its nexlet sends none.
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
  const events = stack.use(followEvents(nc, { from: namespace, signal }));
  const lines = follow ? stack.use(followLogs(nc, { namespace, signal })) : undefined;
  await nc.flush();
  const started = await client.startWorkload({ ...workload, signal });
  onAccepted?.(started);
  const printed = lines === undefined ? undefined : printLines(context, lines, { ids: [started.id], withId: false });
  // Nodes of Go Nex need not send events; their nexlets answer a start when the workload runs.
  const hasEvents = started.nodeId !== undefined;
  const say = (text: string) => context.say(`Workload "${started.name}" [${started.id}] ${text}`);
  const outcome = hasEvents && (wait || follow) ? outcomeOf(events, started, say) : undefined;
  if (outcome !== undefined) await untilRunning(outcome, { client, started, signal });
  if (printed === undefined || lines === undefined) return started;
  const ended = outcome === undefined ? await printed : await outcome.ended;
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

interface Watched {
  client: NexClient;
  started: PlacedWorkload;
  signal: AbortSignal;
}

async function untilRunning(outcome: Outcome, { client, started, signal }: Watched): Promise<void> {
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
  const seen = new AbortController();
  try {
    // Not every nexlet sends events.
    const listed = nextState({ client, started, signal: AbortSignal.any([signal, seen.signal]) });
    const event = await Promise.race([outcome.started, outcome.ended, listed, timeout.promise]);
    if (event === undefined) {
      throw new CliError('CLI_INTERRUPTED', `Stopped waiting for ${which}; it goes on starting`);
    }
    if (event.name !== 'WORKLOADSTARTED') throw failed(started, event);
  } finally {
    clearTimeout(timer);
    seen.abort();
  }
}

/** What the lists of the nodes say of it, as an event, once it runs or has ended; until then, and where they do not list it, nothing. */
async function nextState({ client, started, signal }: Watched): Promise<WorkloadEvent | undefined> {
  const { ProtocolError } = await import('@nex-nix/protocol');
  while (!signal.aborted) {
    try {
      const { workloads } = await client.listWorkloads({ filter: [started.id], signal });
      const found = workloads.find(({ id }) => id === started.id);
      const isOver = found?.workload_state === 'stopped' && found.workload_lifecycle === 'job';
      const isUp = found?.workload_state === 'running' || found?.workload_state === 'warm';
      const message = found?.metadata?.['reason'];
      const error = message === undefined ? {} : { message };
      if (isUp || isOver) return { name: 'WORKLOADSTARTED' };
      if (found?.workload_state === 'stopped' || found?.workload_state === 'error') {
        return { name: 'WORKLOADSTOPPED', error };
      }
      if (found?.metadata?.['crash_loop'] === 'true') return { name: 'WORKLOADCRASHLOOP', error };
      await delay(LIST_INTERVAL, undefined, { signal });
    } catch (error) {
      if (signal.aborted) break;
      // The events may still come.
      if (!(error instanceof ProtocolError)) throw error;
      await delay(LIST_INTERVAL, undefined, { signal }).catch(() => undefined);
    }
  }
  return undefined;
}

interface WorkloadEvent {
  readonly name: string;
  /** In the body of WORKLOADSTOPPED and WORKLOADCRASHLOOP, where the workload has failed. */
  readonly error?: { code?: string; message?: string };
}

/** What events tell of a workload. Undefined when the command is to end before. */
interface Outcome {
  readonly started: Promise<WorkloadEvent | undefined>;
  readonly ended: Promise<WorkloadEvent | undefined>;
}

/** Reads events from now on, until the workload has ended. `say`: told, as a text that goes on from its name, of failures on the way. */
function outcomeOf(events: AsyncIterable<FeedEvent>, { id }: PlacedWorkload, say: (text: string) => void): Outcome {
  const started = Promise.withResolvers<WorkloadEvent | undefined>();
  const ended = Promise.withResolvers<WorkloadEvent | undefined>();
  const read = async (): Promise<void> => {
    for await (const { name, body: content } of events) {
      const body = content as { id?: string; error?: WorkloadEvent['error'] } | null;
      if (body?.id !== id) continue;
      const event = { name, ...(body.error === undefined ? {} : { error: body.error }) };
      // It may go on like that for ever.
      if (name === 'WORKLOADSTARTED' || name === 'WORKLOADCRASHLOOP') started.resolve(event);
      if (name === 'WORKLOADRESTARTING') say(`is started again: ${body.error?.message ?? 'it ended'}`);
      if (name === 'WORKLOADSTOPPED') return ended.resolve(event);
    }
    started.resolve(undefined);
    ended.resolve(undefined);
  };
  read().catch((error: unknown) => {
    started.reject(error);
    ended.reject(error);
  });
  // Whoever needs only one of them leaves the other one be.
  for (const { promise } of [started, ended]) promise.catch(() => undefined);
  return { started: started.promise, ended: ended.promise };
}

function failed({ name, id }: PlacedWorkload, event: WorkloadEvent): CliError {
  const which = `Workload "${name}" [${id}]`;
  const message = event.error?.message;
  if (event.name === 'WORKLOADCRASHLOOP') {
    const why = message?.replace(/^crash loop: /, '') ?? 'it ends soon after each start';
    return new CliError('CLI_WORKLOAD_FAILED', `${which} is in a crash loop, and goes on being started: ${why}`, {
      hint: `nex logs ${id}, nex workload stop ${id}`,
    });
  }
  return new CliError(
    'CLI_WORKLOAD_FAILED',
    `${which} did not start: ${message ?? 'it ended at once, without an error'}`,
    { hint: `nex logs ${id}` },
  );
}
