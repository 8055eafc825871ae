import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { LifecycleSchema, TagMap } from './shared-messages.ts';

export const StartWorkloadRequestSchema = Type.Object({
  description: Type.String(),
  name: Type.String(),
  namespace: Type.String(),
  /** JSON text, as the schema of the nexlet wants it. */
  run_request: Type.String(),
  tags: TagMap,
  workload_lifecycle: LifecycleSchema,
  workload_type: Type.String(),
  metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  reference: Type.Optional(Type.String()),
});
/** A workload to start. Also the reply of CLONE and GETWORKLOAD. */
export const StartWorkloadRequest = defineMessage('StartWorkloadRequest', StartWorkloadRequestSchema);
export type StartWorkloadRequest = Static<typeof StartWorkloadRequestSchema>;

const StartWorkloadResponseSchema = Type.Object({ id: Type.String(), name: Type.String() });
export const StartWorkloadResponse = defineMessage('StartWorkloadResponse', StartWorkloadResponseSchema);
export type StartWorkloadResponse = Static<typeof StartWorkloadResponseSchema>;

export const StopWorkloadRequest = defineMessage('StopWorkloadRequest', Type.Object({ namespace: Type.String() }));

const StopWorkloadResponseSchema = Type.Object({
  id: Type.String(),
  message: Type.String(),
  stopped: Type.Boolean(),
  workload_type: Type.String(),
});
export const StopWorkloadResponse = defineMessage('StopWorkloadResponse', StopWorkloadResponseSchema);
export type StopWorkloadResponse = Static<typeof StopWorkloadResponseSchema>;

const CloneWorkloadRequestSchema = Type.Object({ namespace: Type.String(), new_target_xkey: Type.String() });
export const CloneWorkloadRequest = defineMessage('CloneWorkloadRequest', CloneWorkloadRequestSchema);

const ListWorkloadsRequestSchema = Type.Object({
  /** Ids or names; empty: all. */
  filter: Type.Array(Type.String()),
  /** `system`: all namespaces. */
  namespace: Type.String(),
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
  id: Type.String(),
  name: Type.String(),
  /** How long a job or function ran, `--` for services. */
  runtime: Type.String(),
  /** RFC 3339. */
  start_time: Type.String(),
  tags: TagMap,
  /** Free text on the wire. */
  workload_lifecycle: Type.String(),
  workload_state: WorkloadStateSchema,
  workload_type: Type.String(),
  metadata: Type.Optional(TagMap),
  /** Absent from Go nodes before 0.4.2. */
  namespace: Type.Optional(Type.String()),
});
export type WorkloadSummary = Static<typeof WorkloadSummarySchema>;
/** One entry of a list of workloads. */
export const WorkloadSummary = defineMessage('WorkloadSummary', WorkloadSummarySchema);
/** Reply of WPING and QUERYWORKLOADS. */
export const WorkloadSummaries = defineMessage('WorkloadSummaries', Type.Array(WorkloadSummarySchema));
