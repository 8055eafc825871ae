/**
 * The part of Firecracker's published API description that this project makes use of, as data: paths, methods, names,
 * types, ranges. From `src/firecracker/swagger/firecracker.yaml` of version 1.16.1; `since` was read off the same file of
 * the releases from 1.5 on. When a request is allowed (`phase`) and what is answered to one that is not is from
 * `src/vmm/src/rpc_interface.rs`.
 */
export const DESCRIBED_VERSION = '1.16.1';

export interface FieldDescription {
  type: 'string' | 'integer' | 'boolean' | 'object' | 'array';
  required?: true;
  enum?: readonly string[];
  minimum?: number;
  maximum?: number;
  /** Name of the object's definition, or that of the array's members. */
  of?: string;
  /** First version (minor of 1) that has it; 1.5 or earlier when absent. */
  since?: number;
  /** Required up to this version (minor of 1). */
  requiredUntil?: number;
}

export interface OperationDescription {
  phase: 'any' | 'before start' | 'after start';
  /** Definition of the body. */
  body?: string;
  /** Definition of the answer, 200; else 204 without one. */
  answer?: string;
  since?: number;
}

/** By method and path. `{id}` is checked against the field named in `ID_FIELDS`. */
export const OPERATIONS: Readonly<Record<string, OperationDescription>> = {
  'GET /': { phase: 'any', answer: 'InstanceInfo' },
  'GET /version': { phase: 'any', answer: 'FirecrackerVersion' },
  'GET /machine-config': { phase: 'any', answer: 'MachineConfiguration' },
  'PUT /machine-config': { phase: 'before start', body: 'MachineConfiguration' },
  'PUT /boot-source': { phase: 'before start', body: 'BootSource' },
  'PUT /drives/{id}': { phase: 'before start', body: 'Drive' },
  'PATCH /drives/{id}': { phase: 'after start', body: 'PartialDrive' },
  'PUT /network-interfaces/{id}': { phase: 'before start', body: 'NetworkInterface' },
  'PUT /vsock': { phase: 'before start', body: 'Vsock' },
  'PUT /entropy': { phase: 'before start', body: 'EntropyDevice' },
  'PUT /logger': { phase: 'before start', body: 'Logger' },
  'PUT /metrics': { phase: 'before start', body: 'Metrics' },
  'PUT /serial': { phase: 'before start', body: 'SerialDevice', since: 14 },
  'PUT /actions': { phase: 'any', body: 'InstanceActionInfo' },
  'PATCH /vm': { phase: 'after start', body: 'Vm' },
  'PUT /snapshot/create': { phase: 'after start', body: 'SnapshotCreateParams' },
  'PUT /snapshot/load': { phase: 'before start', body: 'SnapshotLoadParams' },
};

export const ID_FIELDS: Readonly<Record<string, string>> = { drives: 'drive_id', 'network-interfaces': 'iface_id' };

/** Keeps a snapshot from being loaded once it was asked for. */
export const CONFIGURES: readonly string[] = [
  'PUT /machine-config',
  'PUT /boot-source',
  'PUT /drives/{id}',
  'PUT /network-interfaces/{id}',
  'PUT /vsock',
  'PUT /entropy',
];

export const DEFINITIONS: Readonly<Record<string, Readonly<Record<string, FieldDescription>>>> = {
  InstanceInfo: {
    app_name: { type: 'string', required: true },
    id: { type: 'string', required: true },
    state: { type: 'string', required: true, enum: ['Not started', 'Running', 'Paused'] },
    vmm_version: { type: 'string', required: true },
  },
  FirecrackerVersion: { firecracker_version: { type: 'string', required: true } },
  MachineConfiguration: {
    cpu_template: { type: 'string', enum: ['C3', 'T2', 'T2S', 'T2CL', 'T2A', 'V1N1', 'None'] },
    smt: { type: 'boolean' },
    mem_size_mib: { type: 'integer', required: true, minimum: 1 },
    track_dirty_pages: { type: 'boolean' },
    vcpu_count: { type: 'integer', required: true, minimum: 1, maximum: 32 },
    huge_pages: { type: 'string', enum: ['None', '2M'], since: 7 },
  },
  BootSource: {
    boot_args: { type: 'string' },
    initrd_path: { type: 'string' },
    kernel_image_path: { type: 'string', required: true },
  },
  Drive: {
    drive_id: { type: 'string', required: true },
    partuuid: { type: 'string' },
    is_root_device: { type: 'boolean', required: true },
    cache_type: { type: 'string', enum: ['Unsafe', 'Writeback'] },
    is_read_only: { type: 'boolean', requiredUntil: 5 },
    path_on_host: { type: 'string', requiredUntil: 5 },
    rate_limiter: { type: 'object', of: 'RateLimiter' },
    io_engine: { type: 'string', enum: ['Sync', 'Async'] },
    socket: { type: 'string', since: 6 },
  },
  PartialDrive: {
    drive_id: { type: 'string', required: true },
    path_on_host: { type: 'string' },
    rate_limiter: { type: 'object', of: 'RateLimiter' },
  },
  NetworkInterface: {
    guest_mac: { type: 'string' },
    host_dev_name: { type: 'string', required: true },
    iface_id: { type: 'string', required: true },
    mtu: { type: 'integer', minimum: 68, maximum: 65_535, since: 16 },
    rx_rate_limiter: { type: 'object', of: 'RateLimiter' },
    tx_rate_limiter: { type: 'object', of: 'RateLimiter' },
  },
  Vsock: {
    guest_cid: { type: 'integer', required: true, minimum: 3, maximum: 0xff_ff_ff_ff },
    uds_path: { type: 'string', required: true },
    vsock_id: { type: 'string' },
  },
  EntropyDevice: { rate_limiter: { type: 'object', of: 'RateLimiter' } },
  Logger: {
    level: { type: 'string', enum: ['Error', 'Warning', 'Info', 'Debug', 'Trace', 'Off'] },
    log_path: { type: 'string', requiredUntil: 5 },
    show_level: { type: 'boolean' },
    show_log_origin: { type: 'boolean' },
    module: { type: 'string', since: 6 },
  },
  Metrics: { metrics_path: { type: 'string', required: true } },
  SerialDevice: {
    serial_out_path: { type: 'string' },
    rate_limiter: { type: 'object', of: 'TokenBucket', since: 16 },
  },
  InstanceActionInfo: {
    action_type: { type: 'string', required: true, enum: ['FlushMetrics', 'InstanceStart', 'SendCtrlAltDel'] },
  },
  Vm: { state: { type: 'string', required: true, enum: ['Paused', 'Resumed'] } },
  SnapshotCreateParams: {
    mem_file_path: { type: 'string', required: true },
    snapshot_path: { type: 'string', required: true },
    snapshot_type: { type: 'string', enum: ['Full', 'Diff'] },
  },
  SnapshotLoadParams: {
    enable_diff_snapshots: { type: 'boolean' },
    track_dirty_pages: { type: 'boolean', since: 13 },
    mem_file_path: { type: 'string' },
    mem_backend: { type: 'object', of: 'MemoryBackend' },
    snapshot_path: { type: 'string', required: true },
    resume_vm: { type: 'boolean' },
    network_overrides: { type: 'array', of: 'NetworkOverride', since: 12 },
    vsock_override: { type: 'object', of: 'VsockOverride', since: 16 },
    clock_realtime: { type: 'boolean', since: 15 },
  },
  MemoryBackend: {
    backend_type: { type: 'string', required: true, enum: ['File', 'Uffd'] },
    backend_path: { type: 'string', required: true },
  },
  NetworkOverride: {
    iface_id: { type: 'string', required: true },
    host_dev_name: { type: 'string', required: true },
  },
  VsockOverride: { uds_path: { type: 'string', required: true } },
  RateLimiter: { bandwidth: { type: 'object', of: 'TokenBucket' }, ops: { type: 'object', of: 'TokenBucket' } },
  TokenBucket: {
    one_time_burst: { type: 'integer', minimum: 0 },
    refill_time: { type: 'integer', required: true, minimum: 0 },
    size: { type: 'integer', required: true, minimum: 0 },
  },
};
