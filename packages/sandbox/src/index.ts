export { OciRuntime } from './oci/oci-runtime.ts';
export type { OciRuntimeOptions } from './oci/oci-runtime.ts';
export { SandboxError } from './sandbox-error.ts';
export type { SandboxErrorCode } from './sandbox-error.ts';
export type {
  ClosurePath,
  ExecResult,
  ExecSpec,
  Exit,
  Invocation,
  InvocationResult,
  Leftover,
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
  WarmSandbox,
} from './sandbox.ts';
