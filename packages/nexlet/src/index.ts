export { connectWith } from './connect-with.ts';
export { countPieces, createFeeds, type Feeds, type LogOptions, type LogPlace } from './feeds.ts';
export { type LocalAssignment, localEnvironment, readLocalEnvironment } from './local-environment.ts';
export { type LogFunction, type Logger, silentLogger } from './logger.ts';
export { type EndpointHandler, MicroService, type MicroServiceOptions, type Reply } from './micro-service.ts';
export type { NexletOptions } from './nexlet.ts';
export type { NexletDefinition, StartContext } from './nexlet-definition.ts';
export { NexletError, type NexletErrorCode } from './nexlet-error.ts';
export type { NodeWatchTimes } from './node-watch.ts';
export { runLocalNexlet, type RunLocalNexletOptions } from './run-local-nexlet.ts';
export { type RunningNexlet, runNexlet, type RunNexletOptions } from './run-nexlet.ts';
export { runRemoteNexlet, type RunRemoteNexletOptions } from './run-remote-nexlet.ts';
export {
  type Invocation,
  serveTriggers,
  type ServeTriggersOptions,
  type TriggerHandler,
  type Triggers,
} from './triggers.ts';
