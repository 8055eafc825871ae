import { isDeepStrictEqual } from 'node:util';
import type { Deployment, Revision } from './deployment.ts';
import type { DeploymentContent } from './deployments.ts';

/** How many revisions are kept, for a way back. */
const MAX_REVISIONS = 10;

/** The deployment with a new revision, which is wanted from now on. `running` is kept however old it is. */
export function addRevision(
  deployment: Deployment,
  content: DeploymentContent,
  { environment, running }: { environment: Revision['environment']; running: number | undefined },
): Deployment {
  const { revisions, attempt } = deployment;
  const revision = Math.max(0, ...revisions.map((known) => known.revision)) + 1;
  const { type, runRequest, description = '', tags = {}, needs } = content;
  const added: Revision = {
    revision,
    type,
    description,
    runRequest,
    tags: { ...tags },
    ...(needs === undefined ? {} : { needs: { ...needs } }),
    ...(environment === undefined ? {} : { environment }),
    created: new Date().toISOString(),
  };
  const kept = revisions.filter(
    (known, index) => index > revisions.length - MAX_REVISIONS || known.revision === running,
  );
  return { ...deployment, revision, attempt: attempt + 1, revisions: [...kept, added] };
}

/** Whether the wanted revision is just that, its environment aside. */
export function sameContent({ revision, revisions }: Deployment, content: DeploymentContent): boolean {
  const wanted = revisions.find((known) => known.revision === revision);
  if (wanted === undefined || wanted.environment !== undefined) return false;
  const { type, runRequest, description = '', tags = {}, needs } = content;
  return isDeepStrictEqual(
    { type, runRequest: plain(runRequest), description, tags: { ...tags }, needs: plain(needs) },
    {
      type: wanted.type,
      runRequest: wanted.runRequest,
      description: wanted.description,
      tags: wanted.tags,
      needs: wanted.needs,
    },
  );
}

/** As it comes back from the store. */
function plain(value: unknown): unknown {
  return value === undefined ? undefined : (JSON.parse(JSON.stringify(value)) as unknown);
}
