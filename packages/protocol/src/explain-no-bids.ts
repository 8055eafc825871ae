import { setTimeout as delay } from 'node:timers/promises';
import type { NodeInfo, NodePing } from './control-messages.ts';
import type { NexClient } from './nex-client.ts';
import { ProtocolError } from './protocol-error.ts';
import type { Tags } from './shared-messages.ts';

/** Bids come within this time, in milliseconds; a survey before would be for nothing. */
const HEAD_START = 300;
/** More nodes than this are not asked for their nexlets. */
const MAX_INSPECTED = 8;

/** The nodes that could have bid, and the nexlets of those whose tags fit. */
export interface Survey {
  readonly nodes: readonly NodePing[];
  readonly inspected: readonly NodeInfo[];
}

export interface SurveyOptions {
  type: string;
  tags: Tags;
  signal: AbortSignal;
}

/** Looks at the nodes after a moment. Never rejects: undefined when aborted or when they cannot be asked. */
export async function surveyNodes(client: NexClient, { tags, signal }: SurveyOptions): Promise<Survey | undefined> {
  try {
    await delay(HEAD_START, undefined, { signal });
    const { nodes } = await client.pingNodes({ timeout: 600, stall: 200, signal });
    const candidates = nodes.filter((node) => node.state === 'running' && missingTags(node, tags).length === 0);
    const infos = await Promise.allSettled(
      candidates.slice(0, MAX_INSPECTED).map((node) => client.nodeInfo(node.node_id, { timeout: 400, signal })),
    );
    return { nodes, inspected: infos.flatMap((info) => (info.status === 'fulfilled' ? [info.value] : [])) };
  } catch (error) {
    if (signal.aborted || error instanceof ProtocolError) return undefined;
    throw error;
  }
}

/** What the nodes lack, e.g. `2 nodes seen, none has tag region=lab`. */
export function explainNoBids(survey: Survey | undefined, { type, tags }: { type: string; tags: Tags }): string {
  if (survey === undefined) return 'no node bid for it, and the nodes cannot be asked why';
  const seen = `${survey.nodes.length} ${survey.nodes.length === 1 ? 'node' : 'nodes'} seen`;
  const running = survey.nodes.filter((node) => node.state === 'running');
  if (running.length === 0)
    return `${seen}, none is running (${[...new Set(survey.nodes.map((node) => node.state))].join(', ')})`;
  const matching = running.filter((node) => missingTags(node, tags).length === 0);
  if (matching.length === 0) return `${seen}, none has ${lackingTags(running, tags)}`;
  const nexlets = survey.inspected
    .flatMap((node) => node.node_agent_summaries ?? [])
    .filter((agent) => agent.agent_summary.type === type);
  if (survey.inspected.length === 0) return `${seen}, none bid`;
  if (nexlets.length === 0) return `${seen}, none has a nexlet of type "${type}"`;
  const healths = new Set(nexlets.map((nexlet) => nexlet.agent_health));
  if (!healths.has('healthy')) return `${seen}, but their nexlets of type "${type}" are ${[...healths].join(', ')}`;
  return `${seen}, but their nexlets of type "${type}" are full`;
}

function missingTags(node: NodePing, tags: Tags): string[] {
  return Object.entries(tags).flatMap(([key, value]) => (node.tags[key] === value ? [] : [`${key}=${value}`]));
}

function lackingTags(nodes: readonly NodePing[], tags: Tags): string {
  const missing = nodes.map((node) => new Set(missingTags(node, tags)));
  const everywhere = Object.entries(tags)
    .map(([key, value]) => `${key}=${value}`)
    .filter((tag) => missing.every((set) => set.has(tag)));
  if (everywhere.length === 1) return `tag ${everywhere[0]}`;
  if (everywhere.length > 1) return `the tags ${everywhere.join(', ')}`;
  return `all of the tags ${Object.entries(tags)
    .map(([key, value]) => `${key}=${value}`)
    .join(', ')}`;
}
