import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLOCK_CAPACITY, gateFor, READY } from './gate.ts';
import { gateBlock, gateErrno } from './gate-block.ts';

const TOKEN = Buffer.from('0123456789abcdef');
const HEADER = 64;

/** The gate for an instruction set, run on this machine as the arguments say, and what it makes of some stdin. */
function testGate(arch: string, emulator: readonly string[]): void {
  let dir: TempDir;
  let gate: string;
  beforeAll(async () => {
    dir = await tempDir('nex-gate-');
    gate = join(dir.path, 'gate');
    await writeFile(gate, gateFor(arch) ?? '', { mode: 0o755 });
  });
  afterAll(() => dir[Symbol.asyncDispose]());

  const run = (...input: readonly Uint8Array[]) => {
    const [command, ...args] = [...emulator, gate];
    const { status, signal, stdout } = spawnSync(command, args, {
      input: Buffer.concat(input),
      env: { NOT: 'passed' },
    });
    expect(signal).toBeNull();
    expect(stdout[0]).toBe(READY);
    return { status, stdout: stdout.subarray(1) };
  };
  const block = (program: string, args: readonly string[] = [], environment: Record<string, string> = {}) =>
    gateBlock({ program, args: [program, ...args], environment }, TOKEN) ?? Buffer.alloc(0);
  const stopped = { status: 127, stdout: Buffer.alloc(0) };

  it('executes what the block names, and leaves the rest of its input to that', () => {
    const script = 'echo "$A|$B|$NOT|$1|$2"; cat; exit 5';
    const named = block('/bin/sh', ['-c', script, 'sh', 'one two', ''], { A: 'x=y', B: 'ü\n' });
    const { status, stdout } = run(named, Buffer.from('the rest'));
    expect({ status, said: stdout.toString() }).toEqual({ status: 5, said: 'x=y|ü\n||one two|\nthe rest' });
  });

  it('reads a block of many pages', () => {
    const values = Array.from({ length: 16 }, (_, index) => [`V${index}`, `${index}`.repeat(60_000)] as const);
    const named = block('/bin/sh', ['-c', 'echo ${#V9} ${#V15}'], Object.fromEntries(values));
    expect(run(named).stdout.toString()).toBe('60000 120000\n');
  });

  it('prints the token and the error number when the kernel refuses', () => {
    const { status, stdout } = run(block('/nowhere'), Buffer.from('payload'));
    expect({ status, errno: gateErrno(stdout, TOKEN) }).toEqual({ status: 127, errno: 2 });
    expect(gateErrno(stdout, Buffer.from('another token...'))).toBeUndefined();
  });

  it('stops at the end of its input, wherever that is', () => {
    const whole = block('/bin/sh', ['-c', 'echo ran']);
    for (const length of [0, 1, HEADER - 1, HEADER, HEADER + 1, whole.length - 1]) {
      expect(run(whole.subarray(0, length))).toEqual(stopped);
    }
  });

  it.each([0, 1, HEADER - 1, BLOCK_CAPACITY + 1, 0x7fff_ffff, 0xffff_ffff])('stops at a length of %i', (length) => {
    const whole = block('/bin/sh', ['-c', 'echo ran']);
    whole.writeUInt32LE(length, 0);
    expect(run(whole, Buffer.alloc(BLOCK_CAPACITY, 1))).toEqual(stopped);
  });
}

const native = { x64: 'the gate for x64', arm64: 'the gate for arm64' }[process.arch as string];

describe.runIf(native !== undefined)(native ?? 'the gate', () => testGate(process.arch, []));

const foreign = process.arch === 'x64' ? 'arm64' : 'x64';
const emulator = foreign === 'arm64' ? 'qemu-aarch64-static' : 'qemu-x86_64-static';
describeWith([emulator], `the gate for ${foreign}, emulated`, () => testGate(foreign, [findTool(emulator) ?? '']));

describe('the block of a gate', () => {
  it('is none when a string has a NUL character, or when there is too much', () => {
    const of = (environment: Record<string, string>, args: string[] = []) =>
      gateBlock({ program: '/p', args, environment }, TOKEN);
    expect(of({ A: 'b\0C=d' })).toBeUndefined();
    expect(of({}, ['a\0'])).toBeUndefined();
    expect(of({ A: 'x'.repeat(BLOCK_CAPACITY) })).toBeUndefined();
    expect(of({ A: 'x'.repeat(BLOCK_CAPACITY - 200) })).toBeDefined();
  });

  it('is for the instruction sets that there is a gate for', () => {
    expect(gateFor('riscv64')).toBeUndefined();
  });
});
