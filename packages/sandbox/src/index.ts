export { findCertificates } from './bundle/certificates.ts';
export { OciRuntime } from './oci/oci-runtime.ts';
export type { OciRuntimeOptions } from './oci/oci-runtime.ts';
export { cniPluginFolders } from './network/network-options.ts';
export { tryRuntime } from './trial.ts';
export { endProcessesAt, lostTemporaryFolders, processesAt, temporaryFolder } from './temporary-folder.ts';
export type { TemporaryFolder } from './temporary-folder.ts';
export type { NetworkOptions } from './network/network-options.ts';
export type { MicrovmEvent } from './microvm/microvm-event.ts';
export type { MicrovmRuntimeOptions } from './microvm/microvm-options.ts';
export { MicrovmRuntime } from './microvm/microvm-runtime.ts';
export { FirecrackerVmm } from './vmm/firecracker/firecracker-vmm.ts';
export type { FirecrackerOptions } from './vmm/firecracker/firecracker-vmm.ts';
export { QemuVmm } from './vmm/qemu/qemu-vmm.ts';
export type { QemuVmmOptions } from './vmm/qemu/qemu-vmm.ts';
export type { Vmm } from './vmm/vmm.ts';
export { WorkloadDisks } from './microvm/workload-disks.ts';
export { SandboxError } from './sandbox-error.ts';
export type { SandboxErrorCode } from './sandbox-error.ts';
export type {
  CleanOptions,
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
