export { findCertificates } from './bundle/certificates.ts';
export { OciRuntime } from './oci/oci-runtime.ts';
export type { OciRuntimeOptions } from './oci/oci-runtime.ts';
export type { NetworkOptions } from './network/network-options.ts';
export { SandboxError } from './sandbox-error.ts';
export type { SandboxErrorCode } from './sandbox-error.ts';
export type {
  ClosurePath,
  ExecResult,
  ExecSpec,
  Exit,
  Gateway,
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
