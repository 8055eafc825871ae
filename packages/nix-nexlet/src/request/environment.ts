import { inboxPrefix, type NatsConnectionData, type StartWorkloadRequest } from '@nex-nix/protocol';
import { CREDENTIALS_PATH, credentialsFolder } from './credentials-file.ts';
import type { WorkloadPlan } from './workload-plan.ts';

export interface EnvironmentInput {
  readonly request: StartWorkloadRequest;
  readonly credentials: NatsConnectionData;
  /** What the request had sealed. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The file of its closure that holds the certificates of authorities, if it has one. */
  readonly certificates?: string | undefined;
}

/**
 * The whole environment of a workload: what Go nexlets set (`NEX_WORKLOAD_NATS_*`), who it is, a home and a PATH of its
 * own, and what the start request asks for. Nothing of the node's own environment is in it.
 */
export function workloadEnvironment(
  id: string,
  plan: WorkloadPlan,
  { request, credentials, secrets, certificates }: EnvironmentInput,
): Record<string, string> {
  const [server] = credentials.nats_servers;
  const hasFile = credentialsFolder(credentials) !== undefined;
  return {
    HOME: '/tmp',
    PATH: `${plan.storePath}/bin`,
    ...(server === undefined ? {} : { NATS_URL: server }),
    ...(certificates === undefined ? {} : { SSL_CERT_FILE: certificates }),
    ...plan.environment,
    ...secrets,
    NEX_NAMESPACE: request.namespace,
    NEX_WORKLOAD_ID: id,
    NEX_WORKLOAD_NAME: request.name,
    NEX_WORKLOAD_NATS_SERVERS: credentials.nats_servers.join(','),
    NEX_WORKLOAD_NATS_NKEY: credentials.nats_user_seed,
    NEX_WORKLOAD_NATS_B64_JWT: Buffer.from(credentials.nats_user_jwt).toString('base64'),
    NEX_WORKLOAD_NATS_INBOX_PREFIX: inboxPrefix(id),
    ...(hasFile ? { NEX_WORKLOAD_NATS_CREDS: CREDENTIALS_PATH } : {}),
  };
}
