import { type Static, Type } from 'typebox';

/** `{ key: text }`; a Go peer may send `null` for an empty one. */
export const TagMap = Type.Record(Type.String(), Type.String());
export type Tags = Static<typeof TagMap>;

/** How long a workload is meant to live. */
export const LifecycleSchema = Type.Enum(['service', 'job', 'function']);
export type Lifecycle = Static<typeof LifecycleSchema>;

/** All lifecycles of Nex 0.4. */
export const LIFECYCLES: readonly Lifecycle[] = ['service', 'job', 'function'];
