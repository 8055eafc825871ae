/**
 * Bodies of the requests to Firecracker that this package makes, with the names and ranges of its published description
 * (version 1.16.1). What an older version lacks says since when it is there; nothing is sent that was not there in 1.5
 * without a look at {@link FirecrackerFeatures}.
 */

/** Answer to `GET /`. */
export interface InstanceInfo {
  app_name: string;
  id: string;
  state: 'Not started' | 'Running' | 'Paused';
  vmm_version: string;
}

/** `PUT /machine-config`: what is left out goes back to its default. */
export interface MachineConfiguration {
  /** 1 to 32. */
  vcpu_count: number;
  mem_size_mib: number;
  smt?: boolean;
  track_dirty_pages?: boolean;
  /** Since 1.7. */
  huge_pages?: 'None' | '2M';
}

/** `PUT /boot-source`: the files are opened at once. */
export interface BootSource {
  kernel_image_path: string;
  initrd_path?: string;
  /** Replaces the default command line as a whole. */
  boot_args?: string;
}

/** How fast something may be: `size` tokens at most, which grow back within `refill_time` milliseconds. */
interface TokenBucket {
  size: number;
  refill_time: number;
  one_time_burst?: number;
}

interface RateLimiter {
  bandwidth?: TokenBucket;
  ops?: TokenBucket;
}

/** `PUT /drives/{id}`, without the id: before the start. The first one is the guest's first disk. */
export interface Drive {
  path_on_host: string;
  is_root_device: boolean;
  /** Settled for good: the file of a later `PATCH` is opened in the same way. */
  is_read_only: boolean;
  /** `Unsafe`, the default, tells the guest of no flush. */
  cache_type?: 'Unsafe' | 'Writeback';
  io_engine?: 'Sync' | 'Async';
  rate_limiter?: RateLimiter;
}

/** `PATCH /drives/{id}`, without the id: after the start. Another file, and its size, for a disk that the guest does not use. */
export interface DriveUpdate {
  path_on_host?: string;
  rate_limiter?: RateLimiter;
}

/** `PUT /network-interfaces/{id}`, without the id. The tap is opened at once. */
export interface NetworkInterface {
  host_dev_name: string;
  guest_mac?: string;
  rx_rate_limiter?: RateLimiter;
  tx_rate_limiter?: RateLimiter;
}

/** `PUT /vsock`: the socket is bound at once, and must not be there before. */
export interface Vsock {
  /** At least 3. */
  guest_cid: number;
  uds_path: string;
}

/** `PUT /entropy`. */
export interface EntropyDevice {
  rate_limiter?: RateLimiter;
}

/** `PUT /logger`. */
export interface Logger {
  log_path: string;
  level?: 'Error' | 'Warning' | 'Info' | 'Debug' | 'Trace' | 'Off';
  show_level?: boolean;
  show_log_origin?: boolean;
}

/** `PUT /metrics`, once. */
export interface Metrics {
  metrics_path: string;
}

/** `PUT /serial`, since 1.14; `rate_limiter` since 1.16: what comes faster is dropped. */
export interface SerialDevice {
  /** Firecracker's standard output when it is left out. */
  serial_out_path?: string;
  rate_limiter?: TokenBucket;
}

export type ActionType = 'InstanceStart' | 'SendCtrlAltDel' | 'FlushMetrics';

export type VmState = 'Paused' | 'Resumed';

/** `PUT /snapshot/create`, of a VM that is paused. The files are made, or emptied. */
export interface SnapshotCreate {
  snapshot_path: string;
  mem_file_path: string;
  snapshot_type?: 'Full' | 'Diff';
}

/** `PUT /snapshot/load`, in a process that was told nothing else but of its logger, metrics and console. */
export interface SnapshotLoad {
  snapshot_path: string;
  /** `File`: mapped privately; it must stay as it is, and where it is, for the life of the VM. */
  mem_backend: { backend_type: 'File' | 'Uffd'; backend_path: string };
  resume_vm?: boolean;
  /** Since 1.12. */
  network_overrides?: { iface_id: string; host_dev_name: string }[];
  /** Since 1.16. */
  vsock_override?: { uds_path: string };
}
