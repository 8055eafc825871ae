import { type Static, type TSchema, Type } from 'typebox';
import { defineMessage, type MessageType } from '../wire/message.ts';
import { feedSubjects, type Token } from '../wire/subjects.ts';
import { AgentIngressMessageSchema } from './agent-messages.ts';
import { TagMap } from './shared-messages.ts';

const Workload = {
  id: Type.String(),
  namespace: Type.String(),
  workload_type: Type.String(),
  metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
};

/** What is told of a run that ended while another one follows. */
const Restart = {
  ...Workload,
  /** Absent when it ended well. */
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  /** How often it was started again, the coming time included. */
  restarts: Type.Integer(),
  /** RFC 3339: when the next run is to begin. */
  next_start: Type.String(),
};

/**
 * The body of each event. The comment says what it is about, which is the third token of its subject.
 * Source: Nex 0.4, `models/events.go`, where not said otherwise.
 */
const SCHEMAS = {
  /** A node. */
  NODESTARTED: Type.Object({
    id: Type.String(),
    name: Type.String(),
    nexus: Type.String(),
    tags: TagMap,
    /** `io.synadia.nex.event.nexnode_started`. */
    type: Type.String(),
  }),
  /** A node. */
  NODESTOPPED: Type.Object({ id: Type.String() }),
  /** A node. `time`: RFC 3339. */
  NODELAMEDUCKSET: Type.Object({ id: Type.String(), time: Type.String() }),
  /** A node. Go nodes never send it. */
  AGENTSTARTED: Type.Object({ id: Type.String(), name: Type.String(), register_type: Type.String() }),
  /** A node. `timestamp`: RFC 3339. */
  AGENTSTOPPED: Type.Object({
    id: Type.String(),
    name: Type.String(),
    reason: Type.String(),
    timestamp: Type.String(),
  }),
  /** A node. Go nodes never send it. */
  AGENTLAMEDUCKSET: Type.Object({ success: Type.Boolean() }),
  /** A namespace. Sent at each restart too. */
  WORKLOADSTARTED: Type.Object(Workload),
  /** A namespace. `error` is absent when it ended as it was meant to. */
  WORKLOADSTOPPED: Type.Object({
    ...Workload,
    error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  }),
  /** A namespace. One run of a workload has ended, another one follows. Not in Nex. */
  WORKLOADRESTARTING: Type.Object(Restart),
  /** A namespace. Beside the one before, from the third run in a row on that ended soon after its start. Not in Nex. */
  WORKLOADCRASHLOOP: Type.Object(Restart),
  /** A namespace. Go has no subject for it, thus never sends it. `duration`: in milliseconds. */
  WORKLOADTRIGGERED: Type.Object({ duration: Type.Number(), id: Type.String(), namespace: Type.String() }),
  /** A nexlet. */
  INGRESS: AgentIngressMessageSchema,
} as const satisfies Record<string, TSchema>;

export type EventName = keyof typeof SCHEMAS;

/** What an event of that name says. */
export type EventBody<N extends EventName> = Static<(typeof SCHEMAS)[N]>;

/** All events of Nex 0.4 and of this project, and how their bodies are written and read. */
export const EVENTS = Object.fromEntries(
  Object.entries(SCHEMAS).map(([name, schema]) => [name, defineMessage(name, schema)]),
) as { readonly [N in EventName]: MessageType<EventBody<N>> };

/** An event whose body is what its name promises. */
export type KnownEvent = {
  [N in EventName]: {
    /** Namespace, node id or nexlet id. */
    readonly from: string;
    readonly name: N;
    readonly body: EventBody<N>;
    readonly time: Date | undefined;
  };
}[EventName];

/** `$NEX.FEED.<from>.events.<name>`, where `from` is what the event is about. */
export function eventSubject(from: Token, name: EventName): string {
  return feedSubjects.events(from, name);
}

/** An event of a feed with the type of its name; undefined when it is none of Nex, or its body is not what it should be. */
export function knownEvent(event: {
  readonly from: string;
  readonly name: string;
  readonly body: unknown;
  readonly time: Date | undefined;
}): KnownEvent | undefined {
  if (!Object.hasOwn(EVENTS, event.name)) return undefined;
  const body = EVENTS[event.name as EventName].accept(event.body);
  return body === undefined ? undefined : ({ ...event, body } as KnownEvent);
}
