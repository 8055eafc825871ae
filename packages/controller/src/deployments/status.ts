import { type Static, Type } from 'typebox';

const PhaseSchema = Type.Enum(['progressing', 'complete', 'degraded', 'rolled-back', 'removing', 'removed']);
/**
 * - `progressing`: replicas are being started, replaced or stopped
 * - `complete`: all of the wanted revision run
 * - `degraded`: they do not start, or end again and again; it is tried on, ever more slowly
 * - `rolled-back`: the wanted revision failed; the one before it is kept instead
 */
export type Phase = Static<typeof PhaseSchema>;

const ReplicaSchema = Type.Object({
  id: Type.String(),
  /** 0: of an earlier deployment of the same name. */
  revision: Type.Integer(),
  /** Id of its node, where known: Go nodes do not say. */
  node: Type.Optional(Type.String()),
  /** `absent`: its node does not answer. */
  state: Type.Enum(['starting', 'running', 'stopping', 'failed', 'absent']),
  reason: Type.Optional(Type.String()),
});
export type ReplicaStatus = Static<typeof ReplicaSchema>;

export const DeploymentStatusSchema = Type.Object({
  uid: Type.String(),
  /** Which controller wrote it, in which term of office. */
  controller: Type.String(),
  term: Type.String(),
  /** The change of the deployment that this is about, and the roll-out. */
  generation: Type.Integer(),
  attempt: Type.Integer(),
  phase: PhaseSchema,
  wanted: Type.Integer(),
  /** The revision that ran last in all replicas; absent before the first did. */
  revision: Type.Optional(Type.Integer()),
  revisions: Type.Array(Type.Object({ revision: Type.Integer(), wanted: Type.Integer(), running: Type.Integer() })),
  replicas: Type.Array(ReplicaSchema),
  /** Starts whose outcome was not known when this was written: the replica bears the id as a label. */
  starts: Type.Array(Type.Object({ id: Type.String(), revision: Type.Integer() })),
  /** The last roll-out that failed. */
  failed: Type.Optional(Type.Object({ attempt: Type.Integer(), revision: Type.Integer(), reason: Type.String() })),
  /** How often replicas failed, or could not be started, since they last ran for a while. */
  failures: Type.Integer(),
  /** The last thing that went wrong. */
  error: Type.Optional(Type.String()),
  /** RFC 3339. */
  updated: Type.String(),
});
/** What there is of a deployment, as the controller sees it. */
export type DeploymentStatus = Static<typeof DeploymentStatusSchema>;
