export { CacheError } from './errors.ts';
export type { CacheErrorCode } from './errors.ts';
export { CacheService } from './cache-service.ts';
export type { CacheServiceOptions } from './cache-service.ts';
export type { Logger } from './logger.ts';
export { NatsCache } from './nats-cache.ts';
export type { CacheStat } from './protocol.ts';
export type { PushOptions, PushProgress, PushReport } from './push.ts';
export type { StorageOptions } from './streams.ts';
