import { ALLOWED_SYSCALLS } from './seccomp-syscalls.ts';

// Flags of clone(2) that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES = 0x7e02_0000;

const EPERM = 1;
const ENOSYS = 38;

const AF_ALG = 38;
const AF_VSOCK = 40;

/** Values of personality(2) that change nothing of the protection: PER_LINUX, PER_LINUX32, both with UNAME26; query. */
const PERSONALITIES = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/**
 * The machine's own instruction set alone, by the name that Node has for it: a program for another one that its kernel
 * runs too (32-bit x86) is killed. Each further one would cost as much as the rest of the start, which is spent in
 * compiling the filter.
 */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
  riscv64: 'SCMP_ARCH_RISCV64',
};

const EXTRA_SYSCALLS: Readonly<Record<string, readonly string[]>> = {
  x64: ['arch_prctl', 'modify_ldt'],
  arm64: ['sync_file_range2'],
  riscv64: ['riscv_flush_icache'],
};

/**
 * The `seccomp` part of an OCI configuration (runtime-spec, config-linux.md): an allow-list; whatever is not on it
 * fails with EPERM.
 *
 * @param arch As `process.arch`.
 */
export function seccompProfile(arch: string) {
  const allow = (name: string, ...args: object[]) => ({ names: [name], action: 'SCMP_ACT_ALLOW', args });
  const architecture = ARCHITECTURES[arch];
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: architecture === undefined ? [] : [architecture],
    syscalls: [
      { names: [...ALLOWED_SYSCALLS, ...(EXTRA_SYSCALLS[arch] ?? [])], action: 'SCMP_ACT_ALLOW' },
      // Entries of one name are alternatives: any family but AF_ALG and AF_VSOCK.
      allow('socket', { index: 0, value: AF_ALG, op: 'SCMP_CMP_LT' }),
      allow('socket', { index: 0, value: AF_ALG + 1, op: 'SCMP_CMP_EQ' }),
      allow('socket', { index: 0, value: AF_VSOCK, op: 'SCMP_CMP_GT' }),
      ...PERSONALITIES.map((value) => allow('personality', { index: 0, value, op: 'SCMP_CMP_EQ' })),
      allow('clone', { index: 0, value: CLONE_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
      // The flags of clone3 are behind a pointer, where no filter sees them; ENOSYS makes C libraries fall back to clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ],
  };
}
