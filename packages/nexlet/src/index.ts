export { connectWith } from './connect-with.ts';
export { createFeeds, type Feeds } from './feeds.ts';
export { type LogFunction, type Logger, silentLogger } from './logger.ts';
export { type EndpointHandler, MicroService, type MicroServiceOptions, type Reply } from './micro-service.ts';
export type { NexletDefinition, StartContext } from './nexlet-definition.ts';
export { NexletError, type NexletErrorCode } from './nexlet-error.ts';
export { type RunningNexlet, runNexlet, type RunNexletOptions } from './run-nexlet.ts';
