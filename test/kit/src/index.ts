export { startNatsServer } from './nats-server.ts';
export type { NatsServerOptions, TestNatsServer } from './nats-server.ts';
export { startProcess } from './process.ts';
export type { RunningProcess } from './process.ts';
export { tempDir } from './temp-dir.ts';
export type { TempDir } from './temp-dir.ts';
export { describeWith, findTool } from './tools.ts';
export { waitFor } from './wait-for.ts';
