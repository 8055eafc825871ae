import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { LifecycleSchema, TagMap } from './shared-messages.ts';

export const StartWorkloadRequestSchema = Type.Object({
  description: Type.String({ description: 'What it is, for people' }),
  name: Type.String({ description: 'Name of the workload' }),
  namespace: Type.String({ description: 'Namespace that it belongs to' }),
  run_request: Type.String({ description: 'JSON text, as the schema of the nexlet wants it' }),
  tags: Type.With(TagMap, { description: 'Tags that the node must have' }),
  workload_lifecycle: Type.With(LifecycleSchema, { description: 'How long it is meant to live' }),
  workload_type: Type.String({ description: 'Which nexlet runs it' }),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'Whatever the client wants to be listed with it' }),
  ),
  reference: Type.Optional(Type.String({ description: 'Free text of the client' })),
});
/** A workload to start. Also the reply of CLONE and GETWORKLOAD. */
export const StartWorkloadRequest = defineMessage('StartWorkloadRequest', StartWorkloadRequestSchema);
export type StartWorkloadRequest = Static<typeof StartWorkloadRequestSchema>;

const StartWorkloadResponseSchema = Type.Object({
  id: Type.String({ description: 'Id of the workload' }),
  name: Type.String({ description: 'Name of the workload' }),
});
export const StartWorkloadResponse = defineMessage('StartWorkloadResponse', StartWorkloadResponseSchema);
export type StartWorkloadResponse = Static<typeof StartWorkloadResponseSchema>;

export const StopWorkloadRequest = defineMessage(
  'StopWorkloadRequest',
  Type.Object({ namespace: Type.String({ description: 'Namespace of who asks' }) }),
);

const StopWorkloadResponseSchema = Type.Object({
  id: Type.String({ description: 'Id of the workload' }),
  message: Type.String({ description: 'What happened, for people' }),
  stopped: Type.Boolean({ description: 'Whether it is gone' }),
  workload_type: Type.String({ description: 'Which nexlet ran it' }),
});
export const StopWorkloadResponse = defineMessage('StopWorkloadResponse', StopWorkloadResponseSchema);
export type StopWorkloadResponse = Static<typeof StopWorkloadResponseSchema>;

const CloneWorkloadRequestSchema = Type.Object({
  namespace: Type.String({ description: 'Namespace of who asks' }),
  new_target_xkey: Type.String({ description: 'Curve key that its environment is to be sealed for' }),
});
export const CloneWorkloadRequest = defineMessage('CloneWorkloadRequest', CloneWorkloadRequestSchema);

const ListWorkloadsRequestSchema = Type.Object({
  filter: Type.Array(Type.String(), { description: 'Ids or names; empty: all' }),
  namespace: Type.String({ description: 'system: all namespaces' }),
});
/** WPING and QUERYWORKLOADS. */
export const ListWorkloadsRequest = defineMessage('ListWorkloadsRequest', ListWorkloadsRequestSchema, (request) => ({
  ...request,
  filter: request.filter.length === 0 ? null : request.filter,
}));
export type ListWorkloadsRequest = Static<typeof ListWorkloadsRequestSchema>;

const WorkloadStateSchema = Type.Enum(['starting', 'running', 'warm', 'stopping', 'stopped', 'error']);
export type WorkloadState = Static<typeof WorkloadStateSchema>;

const WorkloadSummarySchema = Type.Object({
  id: Type.String({ description: 'Id of the workload' }),
  name: Type.String({ description: 'Name of the workload' }),
  runtime: Type.String({ description: 'How long a job or function ran, -- for services' }),
  start_time: Type.String({ description: 'RFC 3339' }),
  tags: Type.With(TagMap, { description: 'Tags that it asked for' }),
  workload_lifecycle: Type.String({ description: 'Free text on the wire' }),
  workload_state: Type.With(WorkloadStateSchema, { description: 'What it does' }),
  workload_type: Type.String({ description: 'Which nexlet runs it' }),
  metadata: Type.Optional(Type.With(TagMap, { description: 'What the client and the nexlet have to say of it' })),
  namespace: Type.Optional(Type.String({ description: 'Absent from Go nodes before 0.4.2' })),
});
export type WorkloadSummary = Static<typeof WorkloadSummarySchema>;
/** One entry of a list of workloads. */
export const WorkloadSummary = defineMessage('WorkloadSummary', WorkloadSummarySchema);
/** Reply of WPING and QUERYWORKLOADS. */
export const WorkloadSummaries = defineMessage('WorkloadSummaries', Type.Array(WorkloadSummarySchema));
