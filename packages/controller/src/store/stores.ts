import type { NatsConnection } from '@nats-io/nats-core';
import { DeploymentSchema } from '../deployments/deployment.ts';
import { DeploymentKeysSchema } from '../deployments/secrets.ts';
import { DeploymentStatusSchema } from '../deployments/status.ts';
import { JsonBucket } from './json-bucket.ts';

/**
 * What is stored of deployments, under the same keys in three buckets, so that those who want something and the
 * controller, who says what there is, never write to the same place.
 */
export interface Stores {
  /** Written by who describes deployments. */
  readonly deployments: JsonBucket<typeof DeploymentSchema>;
  /** Written by the controller. */
  readonly statuses: JsonBucket<typeof DeploymentStatusSchema>;
  /** Who may open the environments. Written with the first one, then by the controller. */
  readonly keys: JsonBucket<typeof DeploymentKeysSchema>;
}

/** @param replicas copies of each bucket in a cluster, when it is made. Default 1 */
export function openStores(nc: NatsConnection, { replicas }: { replicas?: number | undefined } = {}): Stores {
  return {
    deployments: new JsonBucket(nc, { name: 'nex_deployments', schema: DeploymentSchema, replicas }),
    statuses: new JsonBucket(nc, { name: 'nex_deployment_status', schema: DeploymentStatusSchema, replicas }),
    keys: new JsonBucket(nc, { name: 'nex_deployment_keys', schema: DeploymentKeysSchema, replicas }),
  };
}
