import type { Tags } from '@nex-nix/protocol';

const DEPLOYMENT = 'nex-deployment';
const UID = 'nex-deployment-id';
const REVISION = 'nex-revision';
const START = 'nex-start';

/** What a replica is of: tags of its start request, which every node repeats when it lists its workloads. */
export interface Labels {
  /** Name of the deployment. */
  readonly deployment: string;
  /** Which deployment of that name. */
  readonly uid: string;
  readonly revision: number;
  /** The start that it comes from, so that a start whose answer got lost is recognised. */
  readonly start: string;
}

export function writeLabels({ deployment, uid, revision, start }: Labels): Tags {
  return { [DEPLOYMENT]: deployment, [UID]: uid, [REVISION]: String(revision), [START]: start };
}

/** The labels among the tags of a workload; undefined when it belongs to no deployment. */
export function readLabels(tags: Tags): Labels | undefined {
  const deployment = tags[DEPLOYMENT];
  const revision = Number(tags[REVISION]);
  if (deployment === undefined || !Number.isInteger(revision)) return undefined;
  return { deployment, revision, uid: tags[UID] ?? '', start: tags[START] ?? '' };
}
