export type { AccountUser, SystemUser } from './nsc/claims.ts';
export { connectDevServices } from './control/connect-dev-services.ts';
export type { RunningDevServices } from './control/connect-dev-services.ts';
export type {
  DevControls,
  DevLogEntry,
  DevLogOptions,
  DevStatus,
  ServiceName,
  ServiceState,
  ServiceStatus,
} from './dev-controls.ts';
export { devEnvironment } from './dev-environment.ts';
export { DevError } from './dev-error.ts';
export type { DevErrorCode } from './dev-error.ts';
export { areDevServicesRunning, cleanDevServices, devNodeFolder } from './dev-leftovers.ts';
export type { DevLeftover } from './dev-leftovers.ts';
export type { DevEvent, OnDevEvent } from './dev-event.ts';
export { devLog } from './supervisor/dev-log.ts';
export { DevServices } from './dev-services.ts';
export type { DevCache } from './dev-services.ts';
export type { DevServicesOptions } from './dev-options.ts';
export { wipe } from './wipe.ts';
export type { WipeOptions } from './wipe.ts';
