import type { NatsConnection } from '@nats-io/nats-core';
import type { Bid } from '../messages/auction-messages.ts';
import { StartWorkloadRequest, StartWorkloadResponse } from '../messages/workload-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import { readErrorReply, replyStatus } from '../wire/error-reply.ts';
import { requestOne } from '../wire/gather.ts';
import { controlSubjects } from '../wire/subjects.ts';

/** How long a node may take to start a workload (it asks its nexlet), in milliseconds. */
const DEPLOY_TIMEOUT = 60_000;

export interface DeployOptions {
  /** In milliseconds. Default 60 s. */
  timeout?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Hands a workload to the node that made the bid. `notStarted` says that the node has no nexlet for it any more, which
 * it says before it asks one (404): nothing was started, so that another bid may be tried. After any other error, and
 * after silence, that is not certain.
 *
 * @throws {ProtocolError} NEX_NO_NODES, NEX_NO_ANSWER; NEX_PEER_… what node or nexlet says
 */
export async function deployTo(
  nc: NatsConnection,
  bid: Bid,
  request: StartWorkloadRequest,
  { timeout = DEPLOY_TIMEOUT, signal }: DeployOptions = {},
): Promise<{ started: StartWorkloadResponse } | { notStarted: ProtocolError }> {
  const subject = controlSubjects.deploy(request.namespace, bid.bidder_id);
  const payload = StartWorkloadRequest.encode(request);
  const { reply, noResponders } = await requestOne(nc, subject, payload, { timeout, signal });
  const what = `Cannot deploy workload "${request.name}"`;
  if (noResponders) {
    throw new ProtocolError('NEX_NO_NODES', `${what}: no node listens`, { hint: 'Start one: nex node up' });
  }
  if (reply === undefined) {
    const node =
      bid.node_name === undefined ? 'the node that bid for it' : `node "${bid.node_name}", which bid for it,`;
    throw new ProtocolError('NEX_NO_ANSWER', `${what}: ${node} does not answer within ${timeout} ms`, {
      hint: 'It may have started it all the same: look with nex workload list, then try again',
    });
  }
  const error = readErrorReply(reply);
  if (error === undefined) return { started: StartWorkloadResponse.decode(reply.data, subject) };
  if (replyStatus(reply) === '404') return { notStarted: error };
  throw error;
}
