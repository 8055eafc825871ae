import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { QemuVmm } from '../src/vmm/qemu/qemu-vmm.ts';
import { traces } from './bed.ts';
import { qemuBed, TOOLS } from './qemu-bed.ts';

describeWith(TOOLS, 'QEMU on this machine', () => {
  let bed: Awaited<ReturnType<typeof qemuBed>>;
  beforeAll(async () => (bed = await qemuBed()), 90_000);
  afterAll(async () => bed[Symbol.asyncDispose]());

  /** The image with another kernel. */
  const withKernel = async (name: string, kernel: Buffer) => {
    await writeFile(join(bed.image.folder, name), kernel);
    const { manifest } = bed.image;
    return { ...bed.image, manifest: { ...manifest, kernel: { ...manifest.kernel, file: name } } };
  };

  it('says what it makes of something that is no kernel, and leaves nothing', async () => {
    const spec = await bed.spec({ image: await withKernel('text', Buffer.from('this is no kernel')) });
    await expect(bed.vmm.boot(spec)).rejects.toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
      message: expect.stringMatching(/^Cannot start QEMU for the guest ".*": .*kernel/),
    });
    expect(readdirSync(spec.folder)).toEqual([]);
    expect(traces(spec.id)).toEqual([]);
  });

  it('starts a guest again that resets before its first word, once', async () => {
    const vm = await bed.boot({ image: await withKernel('reset', resettingKernel()) });
    expect(await vm.exited).toMatchObject({ reason: 'reset' });
    expect(await vm.consoleTail()).toBe('B');
  });

  it('names the program that is missing', async () => {
    await using dir = await tempDir('nex-qemu-none-');
    const vmm = new QemuVmm({ stateDir: dir.path, command: 'no-such-qemu' });
    await expect(vmm.boot(await bed.spec())).rejects.toMatchObject({
      code: 'SANDBOX_VMM_MISSING',
      hint: 'apt-get install qemu-system-x86',
    });
    expect(await vmm.check()).toContainEqual(expect.objectContaining({ name: 'QEMU', met: false, essential: true }));
  });

  it('uses KVM exactly where a guest boots with it, and tries that once', async () => {
    // As a process leaves it that was killed while it tried.
    await mkdir(join(bed.path, 'vmm', '.kvm-probe-4194305-0badf00d'), { recursive: true });
    const vmm = bed.another({ accelerator: 'auto' });
    const first = await vmm.check(bed.image);
    const began = performance.now();
    expect(await bed.another({ accelerator: 'auto' }).check(bed.image)).toEqual(first);
    expect(performance.now() - began).toBeLessThan(1000);
    const kvm = first.find(({ name }) => name === 'KVM');
    expect(kvm).toMatchObject({
      essential: false,
      detail: expect.stringMatching(/^(?:.* in \d+ (s|ms)|.*no \/dev\/kvm|.*may not be used|Cannot start QEMU .*)/),
    });
    expect(readdirSync(join(bed.path, 'vmm')).filter((name) => name.startsWith('.kvm'))).toEqual([]);
    if (kvm?.met === true || !existsSync('/dev/kvm')) return;
    // Asked for by name, it is used all the same.
    const booting = bed.another({ accelerator: 'kvm' }).boot(await bed.spec());
    // There are machines whose KVM is so different that QEMU gives up at once.
    if (kvm?.detail.startsWith('Cannot start QEMU')) {
      await expect(booting).rejects.toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
      return;
    }
    const vm = await booting;
    expect(await readFile(`/proc/${vm.pid}/cmdline`, 'utf8')).toContain('accel=kvm');
    await vm.kill();
  }, 60_000);
});

/**
 * A kernel that resets the machine; the second time it prints `B` before that. It knows by a byte of the clock's memory. An
 * ELF file with a note that says where it starts, in 32-bit mode: as Xen has it (`XEN_ELFNOTE_PHYS32_ENTRY`).
 */
function resettingKernel(): Buffer {
  const base = 0x10_0000;
  const [headers, note, code] = [64 + 2 * 56, 24, 0x1000];
  const file = Buffer.alloc(code + 64);
  // ELF, 64 bits, little-endian; an executable for x86-64 with two program headers after this one.
  file.write('7f454c46020101', 0, 'hex');
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(base + code), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  // All of the file, loaded at 1 MiB; and the note.
  const segments = [
    { type: 1, offset: 0, size: file.length, align: 0x1000 },
    { type: 4, offset: headers, size: note, align: 4 },
  ];
  for (const [index, { type, offset, size, align }] of segments.entries()) {
    const at = 64 + index * 56;
    file.writeUInt32LE(type, at);
    file.writeUInt32LE(7, at + 4);
    const fields = [offset, base + offset, base + offset, size, size, align];
    for (const [field, value] of fields.entries()) file.writeBigUInt64LE(BigInt(value), at + 8 + field * 8);
  }
  file.writeUInt32LE(4, headers);
  file.writeUInt32LE(8, headers + 4);
  file.writeUInt32LE(18, headers + 8);
  file.write('Xen', headers + 12);
  file.writeBigUInt64LE(BigInt(base + code), headers + 16);
  const program = [
    'b050e670e471', // al = clock[0x50]
    '84c0750a', // if it is 0:
    'b050e670b001e671', // clock[0x50] = 1
    'eb07', // else:
    '66baf803b042ee', // print "B"
    '0f011d30101000cc', // forget the interrupt table, and interrupt
  ];
  file.write(program.join(''), code, 'hex');
  return file;
}
