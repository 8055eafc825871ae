import { execFileSync } from 'node:child_process';
import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ClosurePath, SandboxSpec } from '@nex-nix/sandbox';
import { findTool } from '@nex-nix/test-kit';

const PERL_PATH = '/nix/store/33333333333333333333333333333333-perl';

/** Which system call has which number (Linux, `syscall.tbl` and `asm-generic/unistd.h`), by `process.arch`. */
export const SYSCALLS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: {
    acct: 163,
    add_key: 248,
    bpf: 321,
    chroot: 161,
    clock_settime: 227,
    clone: 56,
    clone3: 435,
    delete_module: 176,
    fanotify_init: 300,
    finit_module: 313,
    fsopen: 430,
    getpid: 39,
    init_module: 175,
    io_uring_setup: 425,
    iopl: 172,
    kcmp: 312,
    kexec_load: 246,
    keyctl: 250,
    mount: 165,
    mount_setattr: 442,
    move_mount: 429,
    open_by_handle_at: 304,
    open_tree: 428,
    perf_event_open: 298,
    personality: 135,
    pidfd_getfd: 438,
    pivot_root: 155,
    process_vm_readv: 310,
    process_vm_writev: 311,
    ptrace: 101,
    quotactl: 179,
    reboot: 169,
    request_key: 249,
    setdomainname: 171,
    sethostname: 170,
    setns: 308,
    settimeofday: 164,
    socket: 41,
    swapoff: 168,
    swapon: 167,
    syslog: 103,
    umount2: 166,
    unshare: 272,
    userfaultfd: 323,
    vhangup: 153,
  },
  arm64: {
    acct: 89,
    add_key: 217,
    bpf: 280,
    chroot: 51,
    clock_settime: 112,
    clone: 220,
    clone3: 435,
    delete_module: 106,
    fanotify_init: 262,
    finit_module: 273,
    fsopen: 430,
    getpid: 172,
    init_module: 105,
    io_uring_setup: 425,
    kcmp: 272,
    kexec_load: 104,
    keyctl: 219,
    mount: 40,
    mount_setattr: 442,
    move_mount: 429,
    open_by_handle_at: 265,
    open_tree: 428,
    perf_event_open: 241,
    personality: 92,
    pidfd_getfd: 438,
    pivot_root: 41,
    process_vm_readv: 270,
    process_vm_writev: 271,
    ptrace: 117,
    quotactl: 60,
    reboot: 142,
    request_key: 218,
    setdomainname: 162,
    sethostname: 161,
    setns: 268,
    settimeofday: 170,
    socket: 198,
    swapoff: 225,
    swapon: 224,
    syslog: 116,
    umount2: 39,
    unshare: 97,
    userfaultfd: 282,
    vhangup: 58,
  },
};

/**
 * Makes a store path of the machine's perl with its libraries, for it calls the kernel by number. Gives what runs a perl
 * script in a sandbox.
 */
export async function perlIn(
  folder: string,
): Promise<{ path: ClosurePath; spec: (script: string) => Partial<SandboxSpec> }> {
  const perl = findTool('perl') ?? '';
  const source = join(folder, 'perl');
  await mkdir(source, { recursive: true });
  const libraries = [...execFileSync('ldd', [perl], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)].map(
    ([, file = '']) => file,
  );
  for (const file of [perl, ...libraries]) await copyFile(file, join(source, basename(file)));
  const loader = libraries.find((file) => basename(file).startsWith('ld-linux')) ?? '';
  const path = { storePath: PERL_PATH, source };
  return {
    path,
    spec: (script) => ({
      closure: [path],
      program: `${PERL_PATH}/${basename(loader)}`,
      argv: ['--library-path', PERL_PATH, `${PERL_PATH}/${basename(perl)}`, '-e', script],
    }),
  };
}
