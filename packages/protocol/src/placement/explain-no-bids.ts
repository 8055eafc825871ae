import type { NoBid } from '../messages/auction-messages.ts';
import type { NodeInfo, NodePing } from '../messages/control-messages.ts';
import type { Tags } from '../messages/shared-messages.ts';
import type { ProtocolError } from '../protocol-error.ts';
import { missingTags, type Survey } from './survey.ts';

/** How many nodes an explanation names. */
const MAX_NAMED = 8;
/** Longer reasons, which come from other machines, are cut. */
const MAX_REASON = 200;

/** What is known of an auction without a bid. */
export interface NoBidsSeen {
  /** What nodes of this project said. */
  readonly noBids: readonly NoBid[];
  /** Undefined when the nodes cannot be asked. */
  readonly survey: Survey | undefined;
  /** What nodes answered instead of a bid. */
  readonly errors: readonly ProtocolError[];
}

/** A node, and what is in the way there: a text that completes "the node …". */
interface Finding {
  readonly node: string;
  readonly reason: string;
}

/** Which nodes were seen and why each did not bid, e.g. `2 nodes seen (lab-1, lab-2), each lacks tag region=lab`. */
export function explainNoBids(
  { noBids, survey, errors }: NoBidsSeen,
  wanted: { readonly type: string; readonly tags: Tags },
): string {
  const told = new Map(noBids.map((noBid) => [noBid.node_id, finding(noBid.node_name, noBid.node_id, noBid.reason)]));
  const others = (survey?.nodes ?? []).filter((node) => !told.has(node.node_id));
  const findings = [...told.values(), ...others.map((node) => judge(node, survey?.inspected ?? [], wanted))];
  findings.sort((a, b) => (a.node < b.node ? -1 : 1));
  const complaint = errors[0] === undefined ? '' : `; a node answered with an error: ${cut(errors[0].message)}`;
  if (findings.length === 0) return `no node bid for it, and the nodes cannot be asked why${complaint}`;
  return describe(findings) + complaint;
}

function describe(findings: readonly Finding[]): string {
  const [first] = findings;
  const seen = `${findings.length} ${findings.length === 1 ? 'node' : 'nodes'} seen`;
  const named = findings.slice(0, MAX_NAMED);
  const more = findings.length - named.length;
  if (findings.length > 1 && findings.every(({ reason }) => reason === first?.reason)) {
    const names = named.map(({ node }) => node).join(', ') + (more > 0 ? ` and ${more} more` : '');
    return `${seen} (${names}), each ${first?.reason}`;
  }
  const reasons = named.map(({ node, reason }) => `${node} ${reason}`).join('; ');
  return `${seen}: ${reasons}${more > 0 ? `; and ${more} more` : ''}`;
}

function finding(name: string, id: string, reason: string): Finding {
  return { node: cut(name === '' ? id : name), reason: cut(reason) };
}

/** Why a node that says nothing, as Go nodes do, may not have bid. */
function judge(node: NodePing, inspected: readonly NodeInfo[], wanted: { type: string; tags: Tags }): Finding {
  const info = inspected.find((each) => each.node_id === node.node_id);
  return finding(node.tags['nex.node'] ?? '', node.node_id, reasonOf(node, info, wanted));
}

function reasonOf(node: NodePing, info: NodeInfo | undefined, wanted: { type: string; tags: Tags }): string {
  if (node.state !== 'running') return `is ${node.state}`;
  const missing = missingTags(node.tags, wanted.tags);
  if (missing.length > 0) return `lacks tag ${missing.join(', ')}`;
  if (info === undefined) return 'did not bid';
  const nexlets = (info.node_agent_summaries ?? []).filter((agent) => agent.agent_summary.type === wanted.type);
  if (nexlets.length === 0) return `has no nexlet of type "${wanted.type}"`;
  const healths = new Set(nexlets.map((nexlet) => nexlet.agent_health));
  if (healths.has('healthy')) return `did not bid although its nexlet of type "${wanted.type}" is healthy`;
  return `has a nexlet of type "${wanted.type}" that is ${[...healths].join(', ')}`;
}

/** One line of limited length. */
function cut(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length > MAX_REASON ? `${line.slice(0, MAX_REASON)}…` : line;
}
