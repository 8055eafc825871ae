export { OciRuntime } from './oci-runtime.ts';
export type { OciRuntimeOptions } from './oci-runtime.ts';
export { SandboxError } from './sandbox-error.ts';
export type { SandboxErrorCode } from './sandbox-error.ts';
export type {
  ClosurePath,
  Exit,
  LogEntry,
  LogOptions,
  LogPosition,
  Network,
  PrivateFolder,
  Requirement,
  Resources,
  Runtime,
  RuntimeName,
  Sandbox,
  SandboxRecord,
  SandboxSpec,
  StopOptions,
  Usage,
} from './sandbox.ts';
