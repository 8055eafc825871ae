import { EncryptedEnvironment } from '@nex-nix/protocol';
import { type Static, Type } from 'typebox';

const Tags = Type.Record(Type.String(), Type.String());

const StrategySchema = Type.Enum(['balance', 'spread', 'pack']);
/** Which nodes get the replicas. */
export type Strategy = Static<typeof StrategySchema>;

const UpdatePolicySchema = Type.Object({
  /** How many replicas there may be beyond those wanted while one version replaces another; at least 1. */
  maxSurge: Type.Integer({ minimum: 1 }),
  /** How long a new replica has to run before it counts, in milliseconds. */
  stableMs: Type.Number({ minimum: 0 }),
  /** How long it may take until it runs, in milliseconds: its content is fetched in this time. */
  startTimeoutMs: Type.Number({ minimum: 1 }),
});
export type UpdatePolicy = Static<typeof UpdatePolicySchema>;

export const DEFAULT_POLICY: UpdatePolicy = { maxSurge: 1, stableMs: 5_000, startTimeoutMs: 120_000 };

const RevisionSchema = Type.Object({
  /** From 1 up; names this content for ever. */
  revision: Type.Integer({ minimum: 1 }),
  /** The nexlet type that runs it. */
  type: Type.String(),
  description: Type.String(),
  /** What the nexlet's schema asks for. */
  runRequest: Type.Unknown(),
  /** Tags that a node must have. */
  tags: Tags,
  /** What it needs, in the terms of its type. */
  needs: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  /** Sealed for the key of the deployment. */
  environment: Type.Optional(EncryptedEnvironment),
  /** RFC 3339. */
  created: Type.String(),
});
/** What a replica consists of. */
export type Revision = Static<typeof RevisionSchema>;

export const DeploymentSchema = Type.Object({
  /** Tells it from an earlier deployment of the same name. */
  uid: Type.String(),
  namespace: Type.String(),
  /** Also the name of each replica. */
  name: Type.String(),
  replicas: Type.Integer({ minimum: 0 }),
  strategy: StrategySchema,
  policy: UpdatePolicySchema,
  /** Counts the changes: what a status is about. */
  generation: Type.Integer(),
  /** Counts the roll-outs that were asked for: a roll-out that failed is not tried again until this changes. */
  attempt: Type.Integer(),
  /** The revision that is wanted. */
  revision: Type.Integer(),
  /** The wanted one and the last ones before it, the oldest first. */
  revisions: Type.Array(RevisionSchema),
  /** When its removal was asked for, RFC 3339. What appears of it later, on a node that was away, is stopped too. */
  removed: Type.Optional(Type.String()),
});
/** Replicas that are wanted. */
export type Deployment = Static<typeof DeploymentSchema>;

/** The content of a revision, where it is still known. */
export function revisionOf({ revisions }: Deployment, revision: number): Revision | undefined {
  return revisions.find((known) => known.revision === revision);
}
