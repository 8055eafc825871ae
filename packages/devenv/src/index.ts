export type { AccountUser, SystemUser } from './claims.ts';
export type { DevCache } from './dev-cache.ts';
export type {
  DevControls,
  DevLogEntry,
  DevLogOptions,
  DevStatus,
  ServiceName,
  ServiceState,
  ServiceStatus,
} from './dev-controls.ts';
export { DevError } from './dev-error.ts';
export type { DevErrorCode } from './dev-error.ts';
export type { DevEvent, OnDevEvent } from './dev-event.ts';
export { DevServices } from './dev-services.ts';
export type { DevServicesOptions } from './dev-services.ts';
