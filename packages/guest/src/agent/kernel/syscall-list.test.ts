import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kernel } from './run-syscalls.ts';
import { SyscallList } from './syscall-list.ts';
import { syscallExecutable } from './syscall-machine.ts';

const TEXT = Buffer.from('one two\n');

/** The program for an instruction set, run on this machine as the arguments say. */
function testMachine(arch: string, emulator: readonly string[]): void {
  let dir: TempDir;
  beforeAll(async () => {
    dir = await tempDir('nex-syscalls-');
  });
  afterAll(() => dir[Symbol.asyncDispose]());

  const run = async (list: SyscallList) => {
    const file = join(dir.path, 'calls');
    await writeFile(file, list.executable(arch), { mode: 0o755 });
    const [command, ...args] = [...emulator, file];
    const stdio = ['ignore', 'pipe', 'pipe', 'pipe'] as const;
    const { status, signal, output } = spawnSync(command, args, { stdio: [...stdio], env: { NOT: 'passed' } });
    expect(signal).toBeNull();
    return { status, stdout: String(output[1]), report: Buffer.from(output[3] ?? '') };
  };

  it('makes calls in order, and hands over numbers, bytes and texts', async () => {
    const list = new SyscallList()
      .call('chdir', '/proc')
      .call('write', 1, TEXT, TEXT.length)
      .call('write', 1, TEXT, 3)
      .call('exit_group', 7);
    expect(await run(list)).toMatchObject({ status: 7, stdout: 'one two\none', report: Buffer.alloc(0) });
  });

  it('executes a program with just these arguments and variables', async () => {
    const list = new SyscallList()
      .call('chdir', '/')
      .call('execve', '/bin/sh', ['sh', '-c', 'pwd; env; echo "$0 $1"', 'ä', ''], ['A=b']);
    const { stdout } = await run(list);
    expect(stdout.split('\n').filter((line) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(line))).toEqual(['/', 'A=b', 'ä ', '']);
  });

  it('stops at the first failure, and says which it was', async () => {
    const list = new SyscallList()
      .call('write', 1, TEXT, TEXT.length)
      .call('chdir', '/no such folder')
      .call('write', 1, TEXT, TEXT.length);
    const { status, stdout, report } = await run(list);
    expect({ status, stdout }).toEqual({ status: 127, stdout: 'one two\n' });
    expect(report.readBigInt64LE(8)).toBe(-2n);
    expect(list.describe(report.readBigUInt64LE(0))).toEqual({ name: 'chdir', text: 'chdir "/no such folder"' });
  });

  it('goes on after a failure that does not matter', async () => {
    const list = new SyscallList()
      .attempt('chdir', '/nowhere')
      .call('write', 1, TEXT, TEXT.length)
      .call('exit_group', 0);
    expect(await run(list)).toMatchObject({ status: 0, stdout: 'one two\n' });
  });
}

const native = { x64: 'system calls on x64', arm64: 'system calls on arm64' }[process.arch as string];
describe.runIf(native !== undefined)(native ?? 'system calls', () => testMachine(process.arch, []));

const foreign = process.arch === 'x64' ? 'arm64' : 'x64';
const emulator = foreign === 'arm64' ? 'qemu-aarch64-static' : 'qemu-x86_64-static';
describeWith([emulator], `system calls on ${foreign}, emulated`, () =>
  testMachine(foreign, [findTool(emulator) ?? '']),
);

describe('a list of system calls', () => {
  it('is for the instruction sets that there is code for', () => {
    expect(() => syscallExecutable(Buffer.alloc(0), 'riscv64')).toThrow('no code is there for processors "riscv64"');
  });

  it('refuses text that would end early', () => {
    expect(() => new SyscallList().call('chdir', '/a\0b').executable()).toThrow(TypeError);
  });

  it('is run without leaving a file, and a failure is thrown', async () => {
    await using dir = await tempDir('nex-syscalls-');
    const kernel = new Kernel(dir.path);
    expect(String(kernel.run(new SyscallList().call('write', 1, TEXT, 3)))).toBe('one');
    expect(() => kernel.run(new SyscallList().call('chdir', '/nowhere'))).toThrow('chdir "/nowhere": ENOENT');
    const { done } = kernel.launch(new SyscallList().call('chroot', '/nowhere'), ['ignore', 'ignore', 'ignore']);
    await expect(done).rejects.toMatchObject({ call: 'chroot', code: 'ENOENT' });
    expect(spawnSync('ls', ['-A', dir.path]).stdout.toString()).toBe('');
  });
});
