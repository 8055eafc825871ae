import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describeWith, findTool } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { elfSection, isElf } from './elf.ts';
import { unpackKernel } from './kernel.ts';
import { unpackLz4Legacy } from './lz4.ts';
import { findKernel } from './machine-kernel.ts';

/** Begins as a kernel does, repeats itself, and has a block of what cannot be compressed. */
const KERNEL = Buffer.concat([
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]),
  Buffer.alloc(300_000, 'kernel '),
  Buffer.from(Uint32Array.from({ length: 50_000 }, (_, index) => Math.imul(index, 2_654_435_761))),
  Buffer.alloc(9 << 20, 'x'),
]);

const origin = '/boot/vmlinuz-test';

describe('unpacking a kernel', () => {
  it('takes what is a kernel already as it is', async () => {
    expect(await unpackKernel(KERNEL, { origin })).toBe(KERNEL);
    const arm = Buffer.alloc(100);
    arm.write('ARM\x64', 56, 'latin1');
    expect(await unpackKernel(arm, { origin })).toBe(arm);
  });

  it('takes it out of its packing, with and without a boot sector', async () => {
    expect((await unpackKernel(gzipSync(KERNEL), { origin })).equals(KERNEL)).toBe(true);
    for (const payload of [gzipSync(KERNEL), sized(zstdCompressSync(KERNEL))]) {
      expect((await unpackKernel(bootable(payload), { origin })).equals(KERNEL)).toBe(true);
    }
  });

  it.each([
    ['is no kernel', Buffer.from('text'), 'it is not a Linux kernel'],
    ['is empty', Buffer.alloc(0), 'it is not a Linux kernel'],
    ['ends early', bootable(gzipSync(KERNEL)).subarray(0, 4_000), 'it ends before its payload does'],
    ['is packed in an unknown way', bootable(Buffer.from('BZh91AY&SY')), 'compressed in an unknown way (425a6839)'],
    ['holds something else', bootable(gzipSync('text')), 'what is packed in it is no kernel'],
    [
      'is damaged',
      bootable(sized(Buffer.from('02214c1804000000ffffffff', 'hex'))),
      'it ends in the middle of a sequence',
    ],
  ])('says what is wrong with a file that %s', async (_title, file, why) => {
    await expect(unpackKernel(file, { origin })).rejects.toMatchObject({
      code: 'GUEST_BUILD_FAILED',
      message: expect.stringMatching(new RegExp(`Cannot unpack the kernel "${origin}": .*${escaped(why)}`)) as string,
    });
  });
});

describeWith(['lz4'], 'unpacking LZ4', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['one byte', Buffer.from('x')],
    ['several blocks', KERNEL],
  ])('gives what another program has packed: %s', (_title, content) => {
    const { stdout } = spawnSync('lz4', ['-l', '-9', '-c'], { input: content, maxBuffer: 1 << 28 });
    expect(unpackLz4Legacy(stdout).equals(content)).toBe(true);
    expect(unpackLz4Legacy(sized(stdout).subarray(0, -4)).equals(content)).toBe(true);
  });
});

describeWith(['xz'], 'unpacking xz', () => {
  it('is done by the program of that name', async () => {
    const { stdout } = spawnSync('xz', ['--check=crc32', '-0', '-c'], { input: KERNEL, maxBuffer: 1 << 28 });
    expect((await unpackKernel(bootable(sized(stdout)), { origin })).equals(KERNEL)).toBe(true);
  });
});

describeWith(['linux-image'], 'a kernel of a distribution', () => {
  it('is found with its modules, and unpacked', async () => {
    const { kernel, modules } = await findKernel(findTool('linux-image'));
    expect(modules).toMatch(/\/lib\/modules\/[^/]+$/);
    const vmlinux = await unpackKernel(await readFile(kernel), { origin: kernel });
    expect(isElf(vmlinux)).toBe(true);
    expect(elfSection(vmlinux, '.text')?.length).toBeGreaterThan(1_000_000);
  });
});

/** As the build of a kernel does: four bytes with the unpacked size at the end. */
function sized(packed: Buffer): Buffer {
  return Buffer.concat([packed, Buffer.from([0, 0, 0, 1])]);
}

/** A bzImage of one setup sector. */
function bootable(payload: Buffer): Buffer {
  const setup = Buffer.alloc(1024);
  setup.writeUInt8(1, 0x1f1);
  setup.write('HdrS', 0x202);
  setup.writeUInt32LE(16, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(16), payload]);
}

function escaped(text: string): string {
  return text.replaceAll(/[()]/g, String.raw`\$&`);
}
