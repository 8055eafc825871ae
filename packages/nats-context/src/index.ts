export { connectContext } from './connect-context.ts';
export type { ConnectOptions } from './connect-context.ts';
export { connectNats, resolveTarget } from './connect-nats.ts';
export type { NatsTarget } from './connect-nats.ts';
export { ContextError } from './context-error.ts';
export type { ContextErrorCode } from './context-error.ts';
export { listContexts, loadContext, saveContext, selectedContext } from './context-folder.ts';
export type { ContextFolderOptions } from './context-folder.ts';
export type { NatsContext } from './nats-context.ts';
