import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core';
import { StopWorkloadResponse } from '../messages/workload-messages.ts';

const INTERIM_HEADER = 'Nex-Interim';

/** A reply that another one of the same sender will follow: what to pass to `msg.respond(data, { headers })`. */
export interface InterimReply {
  readonly data: string;
  readonly headers: MsgHdrs;
}

/**
 * Says that a workload is being stopped, but is not gone. Clients of Go Nex wait for two seconds after each reply, then
 * take the "not found" of other nodes for the answer; they read on past this one, which keeps them waiting.
 */
export function stoppingReply(workloadId: string): InterimReply {
  const message = { id: workloadId, message: 'workload is stopping', stopped: false, workload_type: '' };
  const marks = headers();
  marks.set(INTERIM_HEADER, 'true');
  return { data: StopWorkloadResponse.encode(message), headers: marks };
}

/** Whether the sender of a reply will send another one. */
export function isInterimReply(msg: Msg): boolean {
  return msg.headers?.has(INTERIM_HEADER) === true;
}
