import type { NexClient } from '../client/nex-client.ts';
import type { NodeInfo, NodePing } from '../messages/control-messages.ts';
import type { Tags } from '../messages/shared-messages.ts';
import { ProtocolError } from '../protocol-error.ts';

/** More nodes than this are not asked for their nexlets. */
const MAX_INSPECTED = 8;

/** The nodes that could have bid, and the nexlets of those whose tags fit. */
export interface Survey {
  readonly nodes: readonly NodePing[];
  readonly inspected: readonly NodeInfo[];
}

export interface SurveyOptions {
  tags: Tags;
  signal: AbortSignal;
}

/** Looks at the nodes, in less than a second. Never rejects: undefined when aborted or when they cannot be asked. */
export async function surveyNodes(client: NexClient, { tags, signal }: SurveyOptions): Promise<Survey | undefined> {
  try {
    const { nodes } = await client.pingNodes({ timeout: 400, stall: 150, signal });
    const candidates = nodes.filter((node) => node.state === 'running' && missingTags(node.tags, tags).length === 0);
    const infos = await Promise.allSettled(
      candidates.slice(0, MAX_INSPECTED).map((node) => client.nodeInfo(node.node_id, { timeout: 300, signal })),
    );
    return { nodes, inspected: infos.flatMap((info) => (info.status === 'fulfilled' ? [info.value] : [])) };
  } catch (error) {
    if (signal.aborted || error instanceof ProtocolError) return undefined;
    throw error;
  }
}

/** The tags that are wanted and not there, as `key=value`. */
export function missingTags(tags: Tags, wanted: Tags): string[] {
  return Object.entries(wanted).flatMap(([key, value]) => (tags[key] === value ? [] : [`${key}=${value}`]));
}
