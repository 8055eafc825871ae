import { type Static, type TSchema, Type } from 'typebox';
import { defineMessage, type MessageType } from '../wire/message.ts';
import { feedSubjects, type Token } from '../wire/subjects.ts';
import { AgentIngressMessageSchema } from './agent-messages.ts';
import { TagMap } from './shared-messages.ts';

const Id = (description: string) => Type.String({ description });
const Time = (description: string) => Type.String({ description: `RFC 3339: ${description}` });
const Failure = (description: string) =>
  Type.Optional(
    Type.Object(
      {
        code: Type.String({ description: 'Exit code, name of a signal, or a word such as OUT_OF_MEMORY' }),
        message: Type.String({ description: 'A sentence for people' }),
      },
      { description },
    ),
  );

const Workload = {
  id: Id('The workload'),
  namespace: Type.String({ description: 'Namespace of the workload' }),
  workload_type: Type.String({ description: 'Type of the workload' }),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'What its start request or its nexlet says of it' }),
  ),
};

/** What is told of a run that ended while another one follows. */
const Restart = {
  ...Workload,
  error: Failure('Why the run ended; absent when it ended well'),
  restarts: Type.Integer({ description: 'How often it was started again, the coming time included' }),
  next_start: Time('when the next run is to begin'),
};

/**
 * The body of each event. The first words of its description say what it is about: that is the third token of its subject.
 * Source: Nex 0.4, `models/events.go`, where not said otherwise.
 */
const SCHEMAS = {
  NODESTARTED: Type.Object(
    {
      id: Id('The node'),
      name: Type.String({ description: 'Name of the node' }),
      nexus: Type.String({ description: 'Group of nodes that it belongs to' }),
      tags: Type.With(TagMap, { description: 'Tags of the node' }),
      type: Type.String({ description: 'io.synadia.nex.event.nexnode_started' }),
    },
    { description: 'A node: it has started' },
  ),
  NODESTOPPED: Type.Object({ id: Id('The node') }, { description: 'A node: it ends' }),
  NODELAMEDUCKSET: Type.Object(
    { id: Id('The node'), time: Time('when it ends') },
    { description: 'A node: it takes no work any more' },
  ),
  AGENTSTARTED: Type.Object(
    {
      id: Id('The nexlet'),
      name: Type.String({ description: 'Name of the nexlet' }),
      register_type: Type.String({ description: 'Type of workloads that it runs' }),
    },
    { description: 'A node: a nexlet has registered that was not there. Go nodes never send it' },
  ),
  AGENTSTOPPED: Type.Object(
    {
      id: Id('The nexlet'),
      name: Type.String({ description: 'Name of the nexlet' }),
      reason: Type.String({ description: 'Why' }),
      timestamp: Time('when'),
    },
    { description: 'A node: a nexlet is gone' },
  ),
  AGENTLAMEDUCKSET: Type.Object(
    { success: Type.Boolean({ description: 'Whether the nexlet takes no work any more' }) },
    { description: 'A node: one for each nexlet that was told of a lame duck. Go nodes never send it' },
  ),
  WORKLOADSTARTED: Type.Object(Workload, { description: 'A namespace: a workload runs. Sent at each restart too' }),
  WORKLOADSTOPPED: Type.Object(
    { ...Workload, error: Failure('Why; absent when it ended as it was meant to') },
    { description: 'A namespace: a workload has ended, and is not started again' },
  ),
  WORKLOADRESTARTING: Type.Object(Restart, {
    description: 'A namespace: one run of a workload has ended, another one follows. Not in Nex',
  }),
  WORKLOADCRASHLOOP: Type.Object(Restart, {
    description:
      'A namespace: beside the one before, from the third run in a row on that ended soon after its start. Not in Nex',
  }),
  WORKLOADTRIGGERED: Type.Object(
    {
      duration: Type.Number({ description: 'In milliseconds' }),
      id: Id('The workload'),
      namespace: Type.String({ description: 'Namespace of the workload' }),
    },
    { description: 'A namespace: a function was invoked. Go has no subject for it, thus never sends it' },
  ),
  INGRESS: Type.With(AgentIngressMessageSchema, {
    description: 'A nexlet: where a workload can be reached, for ingress proxies',
  }),
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
