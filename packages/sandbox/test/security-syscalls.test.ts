import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { testBed, TOOLS } from './bed.ts';
import { perlIn, SYSCALLS } from './native.ts';

const EPERM = 1;
const ENOSYS = 38;

const numbers = SYSCALLS[process.arch] ?? {};

/** Runs system calls in a sandbox, one after the other; gives for each `name:result:errno`. */
async function calls(wanted: readonly (readonly [name: string, ...args: number[]])[]): Promise<string[]> {
  await using bed = await testBed();
  const perl = await perlIn(bed.path);
  const lines = wanted.map(([name, ...args]) => {
    const list = [numbers[name], ...args].join(', ');
    return `$! = 0; $r = syscall(${list}); print "${name}:$r:", $! + 0, "\\n";`;
  });
  const { stdout } = await bed.run('', perl.spec(lines.join('\n')));
  return stdout.trimEnd().split('\n');
}

/** Skipped by name where they are not known. */
const NUMBERS = SYSCALLS[process.arch] === undefined ? [`numbers of system calls of ${process.arch}`] : [];

describeWith([...TOOLS, 'perl', 'ldd', ...NUMBERS], 'system calls in an oci sandbox', () => {
  it.each([
    ['mounting', ['mount', 'umount2', 'fsopen', 'open_tree', 'move_mount', 'mount_setattr', 'pivot_root', 'chroot']],
    ['loading a module', ['init_module', 'finit_module', 'delete_module', 'kexec_load']],
    [
      'ptrace, also by way of memory and descriptors',
      ['ptrace', 'process_vm_readv', 'process_vm_writev', 'pidfd_getfd', 'kcmp'],
    ],
    ['bpf, perf, userfaultfd and io_uring', ['bpf', 'perf_event_open', 'userfaultfd', 'io_uring_setup']],
    ['keyrings', ['add_key', 'request_key', 'keyctl']],
    ['the kernel’s log', ['syslog']],
    [
      'what changes the machine',
      ['reboot', 'swapon', 'swapoff', 'sethostname', 'setdomainname', 'acct', 'quotactl', 'vhangup'],
    ],
    ['the clock', ['settimeofday', 'clock_settime']],
    ['handles of files that are not shown', ['open_by_handle_at', 'fanotify_init']],
    ['joining other namespaces', ['setns', 'unshare']],
  ])('refuses %s', async (_, names) => {
    const present = names.filter((name) => numbers[name] !== undefined);
    expect(await calls(present.map((name) => [name, 0, 0, 0, 0, 0]))).toEqual(
      present.map((name) => `${name}:-1:${EPERM}`),
    );
  });

  it('refuses to make namespaces, users’ included, by any of the three calls', async () => {
    const SIGCHLD = 17;
    const flags = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    const results = await calls([
      ...flags.map((flag) => ['clone', flag | SIGCHLD, 0, 0, 0, 0] as const),
      ...flags.map((flag) => ['unshare', flag] as const),
      ['clone3', 0, 0],
    ]);
    expect(new Set(results)).toEqual(new Set([`clone:-1:${EPERM}`, `unshare:-1:${EPERM}`, `clone3:-1:${ENOSYS}`]));
  });

  it('refuses raw and packet sockets, and families that reach the kernel or its host', async () => {
    const [AF_INET, AF_INET6, AF_PACKET, AF_ALG, AF_VSOCK, SOCK_RAW, SOCK_SEQPACKET] = [2, 10, 17, 38, 40, 3, 5];
    const results = await calls([
      ['socket', AF_INET, SOCK_RAW, 1],
      ['socket', AF_INET6, SOCK_RAW, 58],
      ['socket', AF_PACKET, SOCK_RAW, 0],
      ['socket', AF_ALG, SOCK_SEQPACKET, 0],
      ['socket', AF_VSOCK, 1, 0],
    ]);
    expect(new Set(results)).toEqual(new Set([`socket:-1:${EPERM}`]));
  });

  it('refuses to turn off the randomisation of addresses', async () => {
    expect(await calls([['personality', 0x4_0000]])).toEqual([`personality:-1:${EPERM}`]);
  });

  it.runIf(process.arch === 'x64')('kills a program that makes the calls of another instruction set', async () => {
    await using bed = await testBed();
    const perl = await perlIn(bed.path);
    const x32 = 0x4000_0000;
    const { exit, stdout } = await bed.run(
      '',
      perl.spec(`$| = 1; print "before\\n"; syscall(${x32 + (numbers['getpid'] ?? 0)}); print "after\\n"`),
    );
    expect(stdout).toBe('before\n');
    expect(exit).toMatchObject({ signal: 'SIGSYS' });
  });
});
