/** What the agent is told about the guest it is in: JSON, in the file that its first argument names. */
export interface GuestConfig {
  /**
   * How the host is reached: a virtio-serial port by name, a character device or socket that is connected already as a
   * path, or a Unix socket to listen on (behind which a vsock listener is).
   */
  channel: { port: string } | { file: string } | { listen: string };
  /** The folder that has the image's store paths: `/nix/store` in NixOS. */
  imageStore: string;
  /**
   * Where disks of slots appear, by index: `/dev/vdb` for slot 0 when the image itself is `/dev/vda`. A folder stands for
   * the content of a mounted disk.
   */
  slots: string[];
  /** Absolute paths of the programs that the agent runs; without one, what needs it is refused. */
  tools: Partial<Record<GuestTool, string>>;
  /** Folder for what the agent makes; a tmpfs on which files may be executed. */
  runDir: string;
  /** User and group that programs run as. */
  uid: number;
  gid: number;
  /**
   * What ends the VM. `reboot`: where there is nothing that would switch it off, as on x86-64 under Firecracker, whose
   * kernel is told `reboot=k`. @default 'poweroff'
   */
  end?: 'poweroff' | 'reboot';
}

/** `mkfs`: mkfs.ext4 of e2fsprogs, for scratch disks. All else the agent does by system calls of its own. */
type GuestTool = 'mkfs';
