import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import { Value } from 'typebox/value';
import { createXKey, EncryptedEnvironment, openEnvironment } from '../messages/sealed-environment.ts';
import { CloneWorkloadRequest, StartWorkloadRequest } from '../messages/workload-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import { gather } from '../wire/gather.ts';
import { anySignal } from '../wire/signals.ts';
import { controlSubjects } from '../wire/subjects.ts';
import { readReplies } from './ask.ts';
import type { NexClient } from './nex-client.ts';

/** How long to wait for a node that has the workload, in milliseconds: a Go node gives its nexlets 3 s. */
const TIMEOUT = 3_500;
/** How much longer than its list a node may take to hand over a workload that it does not list. */
const GRACE = 300;

export interface GetWorkloadOptions {
  /** Default: the client's. */
  namespace?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** What a workload was started with. */
export interface WorkloadDefinition {
  /** As the nexlet hands it out: what it sealed in it is for a key that is forgotten. */
  readonly request: StartWorkloadRequest;
  /** The sealed environment, opened; absent when there is none or its nexlet does not seal it again for others. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Asks all nodes for a workload; the one that has it answers, the others are silent. */
export async function getWorkload(
  nc: NatsConnection,
  client: NexClient,
  id: string,
  { namespace = client.namespace, signal }: GetWorkloadOptions,
): Promise<WorkloadDefinition | undefined> {
  const xkey = createXKey();
  const subject = controlSubjects.clone(namespace, id);
  const payload = CloneWorkloadRequest.encode({ namespace, new_target_xkey: xkey.getPublicKey() });
  const done = new AbortController();
  const giveUp = unlessListed(client, { id, namespace, signal: anySignal(done.signal, signal) });
  try {
    // Two nodes may have the same workload: the first answer will do.
    const { replies } = await gather(nc, subject, payload, {
      timeout: TIMEOUT,
      until: (reply) => readReplies(StartWorkloadRequest, [reply], subject).items.length > 0,
      expected: giveUp,
      signal,
    });
    const { items, errors } = readReplies(StartWorkloadRequest, replies, subject);
    const [request] = items;
    if (request !== undefined) return definition(request, xkey);
    if (errors[0] !== undefined) throw errors[0];
    return undefined;
  } finally {
    done.abort();
    await giveUp;
  }
}

/** Resolves with 0, as many answers as there will be, when no node lists the workload; else never says how many. */
async function unlessListed(
  client: NexClient,
  { id, namespace, signal }: { id: string; namespace: string; signal: AbortSignal },
): Promise<number | undefined> {
  try {
    const { workloads, errors } = await client.listWorkloads({ filter: [id], namespace, signal });
    if (errors.length > 0 || workloads.some((workload) => workload.id === id)) return undefined;
    await delay(GRACE, undefined, { signal });
    return 0;
  } catch (error) {
    if (signal.aborted || error instanceof ProtocolError) return undefined;
    throw error;
  }
}

function definition(request: StartWorkloadRequest, xkey: KeyPair): WorkloadDefinition {
  const sealed = runRequestOf(request.run_request)?.['encrypted_environment'];
  if (!Value.Check(EncryptedEnvironment, sealed)) return { request };
  try {
    return { request, environment: openEnvironment(sealed, xkey) };
  } catch (error) {
    if (error instanceof ProtocolError) return { request };
    throw error;
  }
}

/** The run request when it is a JSON object. */
export function runRequestOf(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
