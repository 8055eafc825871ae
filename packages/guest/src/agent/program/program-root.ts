import { chmodSync, lstatSync, mkdirSync, readlinkSync, rmdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { attachDisk } from './attach-disk.ts';
import { certificateLinks } from './certificates.ts';
import { PrivateFolder } from './private-folder.ts';
import { formatScratch } from './scratch.ts';
import { bindReadOnly, MS, mountDevices, mountProc } from './system-mounts.ts';
import type { GuestConfig } from '../guest-config.ts';
import type { Kernel } from '../kernel/run-syscalls.ts';
import { SyscallList } from '../kernel/syscall-list.ts';
import { refused } from '../refused.ts';
import type { GuestStorePath, Prepare } from '../../protocol/messages.ts';

const FOLDERS = ['dev', 'etc', 'nix', 'nix/store', 'proc', 'run', 'tmp'];
const STORE_FLAGS = MS.RDONLY | MS.NOSUID | MS.NODEV;
const TMP_FLAGS = MS.NOSUID | MS.NODEV;

/** What a root depends on beside the request. */
export interface RootOptions {
  config: GuestConfig;
  kernel: Kernel;
  /** Where it is made; not there yet. */
  folder: string;
}

/**
 * What a program sees of the guest: its closure, `/tmp`, `/proc`, a few devices and files, and nothing that it can write
 * but `/tmp` and `/dev/shm`. It lies below the agent's own folder, where nobody else can go.
 */
export class ProgramRoot {
  readonly path: string;
  readonly #config: GuestConfig;
  readonly #kernel: Kernel;
  readonly #folder: string;
  #privateFolder: PrivateFolder | undefined;

  private constructor({ config, kernel, folder }: RootOptions) {
    this.#config = config;
    this.#kernel = kernel;
    this.#folder = folder;
    this.path = join(folder, 'root');
  }

  /** Makes what does not depend on the program, so that it is done before there is one. */
  static make(options: RootOptions): ProgramRoot {
    const root = new ProgramRoot(options);
    root.#makeBase();
    return root;
  }

  #makeBase(): void {
    for (const folder of [this.#folder, this.path, this.#image, this.#disk]) mkdirSync(folder);
    for (const folder of FOLDERS) mkdirSync(join(this.path, folder));
    for (const folder of [this.path, ...FOLDERS.map((name) => join(this.path, name))]) chmodSync(folder, 0o755);
    const list = new SyscallList();
    list.call('umask', 0);
    list.call('mount', this.path, this.path, 0, MS.BIND, 0);
    bindReadOnly(list, this.#config.imageStore, this.#image, STORE_FLAGS);
    mountProc(list, join(this.path, 'proc'));
    mountDevices(list, join(this.path, 'dev'));
    this.#kernel.run(list);
  }

  /**
   * Makes the rest; nothing can be written in it any more but what is said above.
   *
   * @param etc Texts of files in `/etc` by name. `boot`: what the program finds as the kernel's boot id.
   * @throws GuestError GUEST_REFUSED
   */
  async complete(
    request: Prepare,
    { etc, boot }: { etc: Readonly<Record<string, string>>; boot: string },
  ): Promise<void> {
    const { disk, closure, scratch, privateFolder } = request;
    if (scratch !== undefined) await formatScratch(this.#config, { slot: scratch, bytes: request.tmp });
    if (disk !== undefined) await attachDisk(this.#kernel, { source: this.#slot(disk), target: this.#disk });
    for (const [name, text] of Object.entries(etc)) writeFileSync(join(this.path, 'etc', name), text, { mode: 0o644 });
    const list = new SyscallList();
    this.#showBoot(list, boot);
    this.#mountTmp(list, request);
    for (const path of closure) this.#show(list, path);
    for (const [link, target] of certificateLinks(closure, (path) => this.#source(path))) {
      mkdirSync(join(this.path, link, '..'), { recursive: true });
      symlinkSync(target, join(this.path, link));
    }
    if (privateFolder !== undefined) this.#showPrivate(list, privateFolder);
    list.call('mount', 0, this.path, 0, MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID | MS.NODEV, 0);
    this.#kernel.run(list);
    if (scratch !== undefined) {
      chmodSync(join(this.path, 'tmp'), 0o1777);
      rmdirSync(join(this.path, 'tmp/lost+found'));
    }
  }

  /** Lets go of all mounts, so that nothing is left of it for whoever comes next. */
  discard(): void {
    const detach = 2;
    const list = new SyscallList();
    for (const path of [this.path, this.#disk, this.#image]) list.attempt('umount2', path, detach);
    this.#kernel.run(list);
  }

  /** Present when one was asked for. */
  get privateFolder(): PrivateFolder | undefined {
    return this.#privateFolder;
  }

  get #image(): string {
    return join(this.#folder, 'image');
  }

  get #disk(): string {
    return join(this.#folder, 'disk');
  }

  #slot(index: number): string {
    const source = this.#config.slots[index];
    if (source === undefined) throw refused('invalid', `Cannot use the disk in slot ${index}: there is no such slot`);
    return source;
  }

  #source({ storePath, from }: GuestStorePath): string {
    return join(from === 'image' ? this.#image : this.#disk, basename(storePath));
  }

  #showBoot(list: SyscallList, boot: string): void {
    const file = join(this.#folder, 'boot_id');
    writeFileSync(file, `${boot}\n`, { mode: 0o444 });
    bindReadOnly(list, file, join(this.path, 'proc/sys/kernel/random/boot_id'), STORE_FLAGS | MS.NOEXEC);
  }

  /** For tmpfs no size is no limit. */
  #mountTmp(list: SyscallList, { scratch, tmp }: Prepare): void {
    const target = join(this.path, 'tmp');
    if (scratch === undefined)
      list.call('mount', 'tmpfs', target, 'tmpfs', TMP_FLAGS, `mode=1777,size=${Math.max(tmp, 1)}`);
    else list.call('mount', this.#slot(scratch), target, 'ext4', TMP_FLAGS, 0);
  }

  #showPrivate(list: SyscallList, { path, files }: NonNullable<Prepare['privateFolder']>): void {
    this.#privateFolder = new PrivateFolder(join(this.#folder, 'private'), this.#config);
    this.#privateFolder.create(files);
    const target = join(this.path, path);
    mkdirSync(target);
    bindReadOnly(list, this.#privateFolder.path, target, STORE_FLAGS | MS.NOEXEC);
  }

  /** A mount would follow a symbolic link: such a path is made anew instead. */
  #show(list: SyscallList, path: GuestStorePath): void {
    const source = this.#source(path);
    const target = join(this.path, 'nix/store', basename(path.storePath));
    const kind = lstatSync(source, { throwIfNoEntry: false });
    if (kind === undefined) {
      throw refused('failed', `Cannot show "${path.storePath}": the ${path.from} does not have it`);
    }
    if (kind.isSymbolicLink()) return symlinkSync(readlinkSync(source), target);
    if (kind.isDirectory()) mkdirSync(target);
    else if (kind.isFile()) writeFileSync(target, '');
    else throw refused('failed', `Cannot show "${path.storePath}": it is neither file, folder nor link`);
    // As the mount that it is taken from: read-only, no set-user-id programs, no devices.
    list.call('mount', source, target, 0, MS.BIND, 0);
  }
}
