// Subjects, messages and events, out of the schemas that every message is written and read with.
import * as protocol from '@nex-nix/protocol';
import { NatsConnectionDataSchema } from '../../packages/protocol/src/messages/nats-connection-data.ts';
import { code, page, prose, table } from './markdown.ts';
import { fieldsOf, type Schema, typeOf } from './schema-fields.ts';
import { schemaTable } from './start-request-page.ts';

const { agentSubjects, controlSubjects, EVENTS, feedSubjects } = protocol;

type MessageName = Extract<keyof typeof protocol, `${string}Request` | `${string}Response`> | keyof typeof protocol;

/** Who asks whom what: request, reply, and what it is for. An empty name is an empty body. */
type Exchange = readonly [MessageName | '', MessageName | '', string];

const CONTROL: Readonly<Record<keyof typeof controlSubjects, Exchange>> = {
  placementTags: ['', 'PlacementTags', 'tags of each node; each answers'],
  ping: ['NodePingRequest', 'NodePingResponse', 'who is there; each node with these tags answers'],
  pingNode: ['', 'NodePingResponse', 'one node'],
  info: ['NodeInfoRequest', 'NodeInfoResponse', 'a node and its nexlets'],
  lameduck: ['LameduckRequest', 'LameduckResponse', 'takes a node out of service'],
  agentId: ['', '', 'id of the nexlet whose name is the body; both are plain text'],
  auction: ['AuctionRequest', 'AuctionResponse', 'who runs such a workload; each node that would answers with a bid'],
  deploy: ['StartWorkloadRequest', 'StartWorkloadResponse', 'starts a workload where that bid was made'],
  undeploy: ['StopWorkloadRequest', 'StopWorkloadResponse', 'stops a workload; the node that has it answers'],
  clone: ['CloneWorkloadRequest', 'StartWorkloadRequest', 'what a workload was started from, sealed for who asks'],
  listWorkloads: ['ListWorkloadsRequest', 'WorkloadSummaries', 'what runs; each node answers'],
  heartbeat: ['NodeHeartbeat', '', 'published by each node: its nexlets'],
};

/** Served on the namespace `system` only. */
const SYSTEM_ONLY = ['placementTags', 'ping', 'pingNode', 'info', 'lameduck', 'agentId'];

const AGENT: Readonly<Record<keyof typeof agentSubjects, Exchange>> = {
  register: ['RegisterAgentRequest', 'RegisterAgentResponse', 'a nexlet registers; the node answers'],
  registerRemote: [
    'RegisterRemoteAgentRequest',
    'RegisterRemoteAgentResponse',
    'a nexlet that no node has started looks for one',
  ],
  heartbeat: ['AgentHeartbeat', '', 'published by the nexlet'],
  startWorkload: ['AgentStartWorkloadRequest', 'StartWorkloadResponse', 'the node hands over a workload'],
  ping: ['', 'AgentSummary', 'one nexlet'],
  bid: ['AuctionRequest', 'BidTerms', 'what to bid; nexlets of this project only'],
  stopWorkload: ['StopWorkloadRequest', 'StopWorkloadResponse', 'the nexlet that has the workload stops it'],
  getWorkload: ['CloneWorkloadRequest', 'StartWorkloadRequest', 'the nexlet that has the workload answers'],
  queryWorkloads: ['ListWorkloadsRequest', 'WorkloadSummaries', 'each nexlet answers'],
  pingAll: ['', 'AgentSummary', 'each nexlet answers'],
  lameduck: ['LameduckRequest', 'LameduckResponse', 'each nexlet takes no work any more'],
  pingWorkload: ['', 'WorkloadLocation', 'the nexlet of the nexus that has the workload answers'],
};

/** `docs/reference/messages.md`. */
export function messagesPage(): string {
  const messages = allMessages();
  const used = [...Object.values(CONTROL), ...Object.values(AGENT)].flatMap(([request, reply]) => [request, reply]);
  const more = messages.filter(({ name }) => !used.includes(name as MessageName));
  return page(
    'Subjects and messages',
    'The wire is that of Nex 0.4; what only this project has, says so. Bodies are JSON. Readers pass over keys that they do not know, and take `null` for the empty value.',
    '`{namespace}` is the namespace of who asks; `system` may act for all. Errors are replies with the headers `Nats-Service-Error-Code` and `Nats-Service-Error`.',
    '## Nodes',
    subjectTable(controlSubjects, CONTROL),
    '## Nexlets',
    'Between a node and its nexlets.',
    subjectTable(agentSubjects, AGENT),
    '## Feeds',
    table(
      ['Subject', 'Body'],
      [
        [code(feedSubjects.logs('{namespace}', '{workload}', 'stdout')), 'a line of output; `stderr` likewise'],
        [code(feedSubjects.metrics('{namespace}', '{workload}')), 'what the workload uses, as a JSON object'],
        [code(feedSubjects.events('{origin}', '{name}')), '[events](events.md)'],
      ],
    ),
    '## Messages',
    more.length === 0 ? '' : `Beside those above: ${more.map(({ name }) => link(name)).join(', ')}.`,
    ...messages.flatMap(({ name, schema }) => [`### ${name}`, bodyOf(schema)]),
    '### NatsConnectionData',
    schemaTable(fieldsOf(NatsConnectionDataSchema)),
    '### EncryptedEnvironment',
    schemaTable(fieldsOf(protocol.EncryptedEnvironment)),
  );
}

/** `docs/reference/events.md`. */
export function eventsPage(): string {
  const events = Object.values(EVENTS).map(({ name, schema }) => {
    const [, origin = '', meaning = ''] = /^An? (\w+): (.*)$/s.exec((schema as Schema).description ?? '') ?? [];
    if (origin === '')
      throw new Error(`Cannot document the event ${name}: its description does not say what it is about`);
    return { name, schema, origin, meaning };
  });
  return page(
    'Events',
    `What becomes of nodes, nexlets and workloads is published on ${code(feedSubjects.events('{origin}', '{name}'))}, where the origin is the namespace, or the id of the node or nexlet that it is about. \`nex events\` shows them; with the stream \`NEX_FEED\` (\`nex node up --retain\`, \`nex dev\`) they are kept.`,
    table(
      ['Event', 'About', 'When'],
      events.map(({ name, origin, meaning }) => [
        `[${code(name)}](#${name.toLowerCase()})`,
        `a ${origin}`,
        prose(meaning),
      ]),
    ),
    ...events.flatMap(({ name, schema }) => [`## ${name}`, schemaTable(fieldsOf(schema))]),
  );
}

interface NamedSchema {
  readonly name: string;
  readonly schema: Schema;
}

/** The messages that the package exports, by name. */
function allMessages(): NamedSchema[] {
  return Object.values(protocol as Readonly<Record<string, unknown>>)
    .filter(
      (value): value is NamedSchema =>
        typeof value === 'object' && value !== null && 'schema' in value && 'encode' in value && 'name' in value,
    )
    .map(({ name, schema }) => ({ name, schema }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function bodyOf(schema: Schema): string {
  if (schema.properties === undefined) return `A ${typeOf(schema, knownName)}.`;
  return Object.keys(schema.properties).length === 0 ? 'An empty object.' : schemaTable(fieldsOf(schema, knownName));
}

/** Schemas that stand under a heading of their own, by their fields: a description makes a copy of the rest. */
function knownName({ properties }: Schema): string | undefined {
  if (properties === undefined) return undefined;
  const named = [
    ...allMessages(),
    { name: 'NatsConnectionData', schema: NatsConnectionDataSchema as Schema },
    { name: 'EncryptedEnvironment', schema: protocol.EncryptedEnvironment as Schema },
  ];
  const found = named.find(({ schema }) => schema.properties === properties);
  return found === undefined ? undefined : link(found.name);
}

type SubjectTable = Readonly<Record<string, (...tokens: string[]) => string>>;

function subjectTable(subjects: object, exchanges: Readonly<Record<string, Exchange>>): string {
  const rows = Object.entries(subjects as SubjectTable).map(([name, subject]) => {
    const [request, reply, meaning] = exchanges[name] ?? ['', '', ''];
    const tokens = tokensOf(subject).map((token) =>
      SYSTEM_ONLY.includes(name) && token === '{namespace}' ? protocol.SYSTEM_NAMESPACE : token,
    );
    return [code(subject(...tokens)), link(request), link(reply), meaning];
  });
  return table(['Subject', 'Body', 'Reply', 'What for'], rows);
}

/** `{namespace}` for the parameter of that name. */
function tokensOf(subject: (...tokens: string[]) => string): string[] {
  const [, parameters = ''] = /^\(([^)]*)\)/.exec(subject.toString()) ?? [];
  return parameters.split(',').map((parameter) => `{${parameter.trim()}}`);
}

function link(name: string): string {
  return name === '' ? '' : `[${name}](#${name.toLowerCase()})`;
}
