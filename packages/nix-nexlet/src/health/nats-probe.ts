import { randomUUID } from 'node:crypto';
import { errors, type NatsConnection } from '@nats-io/nats-core';
import { connectWith } from '@nex-nix/nexlet';
import { inboxPrefix, type NatsConnectionData } from '@nex-nix/protocol';
import { failed, HEALTHY, type Probe, type ProbeResult, unknown } from './probe.ts';

export interface NatsTarget {
  readonly subject: string;
  /** Of the workload: names its private inbox, which its credentials let it subscribe to. */
  readonly workloadId: string;
  /** The workload's own; undefined until its node has given it some. */
  readonly credentials: () => NatsConnectionData | undefined;
  readonly timeoutMs: number;
}

/** A micro service says so that it could not do what it was asked. Source of the name: ADR-32 of NATS. */
const SERVICE_ERROR = 'Nats-Service-Error-Code';

/**
 * Healthy when a request to a subject is answered. It is sent with the credentials of the workload, over a connection of
 * its own: whoever may deploy could else have the node send messages to wherever the node may. While no server answers,
 * nothing is said about the program.
 */
export class NatsProbe implements Probe {
  readonly #target: NatsTarget;
  #connecting: Promise<NatsConnection> | undefined;
  #connected = false;
  /** What the server did not let the credentials do last. */
  #refusal: string | undefined;

  constructor(target: NatsTarget) {
    this.#target = target;
  }

  async check(signal: AbortSignal): Promise<ProbeResult> {
    if (this.#target.credentials() === undefined) return unknown('its node has not renewed its credentials yet');
    const nc = await Promise.race([this.#connection(), aborted(signal)]);
    if (nc === undefined) return unknown('the NATS server does not answer');
    return typeof nc === 'string' ? unknown(nc) : this.#ask(nc);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#connecting?.then(
      (nc) => nc.close(),
      () => undefined,
    );
    // A connection that does not come about is not waited for.
    if (this.#connected) await closed;
  }

  async #ask(nc: NatsConnection): Promise<ProbeResult> {
    const { subject, workloadId, timeoutMs } = this.#target;
    this.#refusal = undefined;
    // It may hold the workload's name.
    if (/\s/.test(subject)) return failed(`"${subject}" is no subject`);
    try {
      const reply = `${inboxPrefix(workloadId)}.health.${randomUUID()}`;
      const answer = await nc.request(subject, '', { timeout: timeoutMs, noMux: true, reply });
      const code = answer.headers?.get(SERVICE_ERROR) ?? '';
      return code === '' ? HEALTHY : failed(`"${subject}" is answered by error ${code}`);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      if (this.#refusal !== undefined) return failed(this.#refusal);
      if (error instanceof errors.RequestError && error.isNoResponders())
        return failed(`nobody listens at "${subject}"`);
      if (!(await answers(nc, timeoutMs))) return unknown('the NATS server does not answer');
      if (error instanceof errors.TimeoutError) return failed(`"${subject}" is not answered in time`);
      return failed(`"${subject}" cannot be asked: ${error.message}`);
    }
  }

  /** A text: why there is none. */
  async #connection(): Promise<NatsConnection | string> {
    this.#connecting ??= this.#connect();
    try {
      return await this.#connecting;
    } catch (error) {
      this.#connecting = undefined;
      if (error instanceof Error) return error.message;
      throw error;
    }
  }

  async #connect(): Promise<NatsConnection> {
    const { credentials } = this.#target;
    const given = (): NatsConnectionData => {
      const data = credentials();
      if (data === undefined) throw new TypeError('The workload has no credentials');
      return { ...data, conn_name: `health check of ${this.#target.workloadId}` };
    };
    const nc = await connectWith(given);
    this.#connected = true;
    void this.#noteRefusals(nc);
    return nc;
  }

  async #noteRefusals(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type !== 'error' || !(status.error instanceof errors.PermissionViolationError)) continue;
      const { operation, subject } = status.error;
      const verb = operation === 'publish' ? 'publish to' : 'subscribe to';
      const option = operation === 'publish' ? '--workload-publish' : '--workload-subscribe';
      this.#refusal = `its credentials do not let it ${verb} "${subject}" (nex node up ${option})`;
    }
  }
}

async function answers(nc: NatsConnection, timeoutMs: number): Promise<boolean> {
  if (nc.isClosed()) return false;
  const pong = nc.rtt().then(
    () => true,
    () => false,
  );
  return (await Promise.race([pong, aborted(AbortSignal.timeout(timeoutMs))])) ?? false;
}

function aborted(signal: AbortSignal): Promise<undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  if (signal.aborted) resolve(undefined);
  else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  return promise;
}
