/** What the agent is told about the guest it is in: JSON, in the file that its first argument names. */
export interface GuestConfig {
  /**
   * How the host is reached: a virtio-serial port by name, a character device or socket that is connected already as a
   * path, or a Unix socket to listen on (behind which a vsock listener is).
   */
  channel: { port: string } | { file: string } | { listen: string };
  /** The folder that has the image's store paths: `/nix/store` in NixOS. */
  imageStore: string;
  /** Where disks of slots appear, by index: `/dev/vdb` for slot 0 when the image itself is `/dev/vda`. */
  slots: string[];
  /** Absolute paths of the programs that the agent runs. */
  tools: Record<GuestTool, string>;
  /** Folder for what the agent makes; a tmpfs. */
  runDir: string;
  /** User and group that programs run as. */
  uid: number;
  gid: number;
}

/** util-linux: mount, umount, setpriv, prlimit. coreutils: chroot, sync, date. A POSIX sh. iproute2 or busybox: ip. */
export type GuestTool =
  | 'sh'
  | 'mount'
  | 'umount'
  | 'chroot'
  | 'setpriv'
  | 'prlimit'
  | 'date'
  | 'ip'
  | 'mkfs'
  | 'poweroff';
