/** One file of a guest image. */
export interface ImageFile {
  /** Name in the image's folder. */
  file: string;
  /** In bytes. */
  size: number;
  /** Base16. */
  sha256: string;
}

/** `guest.json` in the folder of a guest image. */
export interface GuestManifest {
  version: 1;
  kind: 'minimal' | 'nixos';
  /** `x86_64-linux`, `aarch64-linux`. */
  system: string;
  /** Version of the agent in it. */
  agent: string;
  /** Versions of the protocol that it speaks. */
  protocol: number[];
  /** Uncompressed ELF (`vmlinux`) on x86-64: what QEMU's microvm and Firecracker boot fastest. */
  kernel: ImageFile;
  initrd: ImageFile;
  /** erofs; the guest's first disk. */
  root: ImageFile;
  /** Words for the kernel that hold with every VMM and machine. */
  commandLine: string;
  /** Store paths that the image holds, with the NAR hash in SRI syntax where it is known; closure disks leave them out. */
  storePaths: { storePath: string; narHash?: string }[];
}

export const MANIFEST_FILE = 'guest.json';
