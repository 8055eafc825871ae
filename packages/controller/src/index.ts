export { ControllerError, type ControllerErrorCode } from './controller-error.ts';
export type { ControllerPing } from './controller/presence.ts';
export {
  type Controller,
  type ControllerOptions,
  type ControllerTimings,
  runController,
} from './controller/run-controller.ts';
export {
  DEFAULT_POLICY,
  type Deployment,
  type Revision,
  type Strategy,
  type UpdatePolicy,
} from './deployments/deployment.ts';
export {
  type DeploymentChange,
  type DeploymentContent,
  type DeploymentRequest,
  Deployments,
  type DeploymentView,
} from './deployments/deployments.ts';
export type { XKey } from './deployments/secrets.ts';
export { untilSettled } from './deployments/settled.ts';
export type { DeploymentStatus, Phase, ReplicaStatus } from './deployments/status.ts';
export type { Logger, LogFunction } from './logger.ts';
