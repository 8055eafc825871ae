import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { readGuestImage } from './guest-image.ts';

describe('a guest image', () => {
  it('is what its manifest says', async () => {
    await using bed = await makeImage();
    expect(await readGuestImage(bed.folder, { verify: true })).toEqual(bed.manifest);
  });

  it.each<[string, Damage, string]>([
    ['without a manifest', { remove: 'guest.json' }, 'there is no guest.json in it'],
    ['without one of its files', { remove: 'initrd' }, 'its file "initrd" is not there'],
    ['with a file of another size', { write: { vmlinux: 'k' } }, 'its file "vmlinux" has 1 bytes, its manifest says 6'],
    [
      'with a file of other content',
      { write: { vmlinux: 'Kernel' } },
      'its file "vmlinux" is not the one of its manifest',
    ],
    ['whose manifest is no JSON', { write: { 'guest.json': '{' } }, 'its guest.json is wrong: it is not JSON'],
    ['of another version', { change: { version: 2 } }, 'its version is 2, this program knows 1'],
    ['with a field that nobody knows', { change: { extra: 1 } }, 'it has an unknown field "extra"'],
    ['of an unknown kind', { change: { kind: 'other' } }, '"kind" makes no sense'],
    ['for an unknown system', { change: { system: 'riscv64-linux' } }, '"system" makes no sense'],
    ['with words for the kernel in two lines', { change: { commandLine: 'a\nb' } }, '"commandLine" makes no sense'],
    [
      'with a store path that is none',
      { change: { storePaths: [{ storePath: '/etc' }] } },
      'a store path makes no sense',
    ],
    ['without store paths', { change: { storePaths: undefined } }, '"storePaths" is not a list'],
    ['with a hash of nothing', { file: { sha256: 'x' } }, 'the SHA-256 of "kernel" makes no sense'],
    ['with a size of nothing', { file: { size: 0 } }, 'the size of "kernel" makes no sense'],
    ['with a file elsewhere', { file: { file: '../vmlinux' } }, 'the name of "kernel" makes no sense'],
  ])('%s is refused with what is wrong and how to build another', async (_title, damage, why) => {
    await using bed = await makeImage(damage);
    const reading = readGuestImage(bed.folder, { verify: true });
    await expect(reading).rejects.toMatchObject({
      code: 'GUEST_IMAGE_INVALID',
      message: expect.stringContaining(`Cannot use the guest image "${bed.folder}": `) as string,
      hint: `nex guest build --output ${bed.folder} --replace`,
    });
    await expect(reading).rejects.toThrow(why);
  });

  it('is not read through when only sizes are asked for', async () => {
    await using bed = await makeImage({ write: { vmlinux: 'Kernel' } });
    expect(await readGuestImage(bed.folder)).toEqual(bed.manifest);
  });
});

interface Damage {
  remove?: string;
  write?: Record<string, string>;
  change?: Record<string, unknown>;
  /** Of the kernel. */
  file?: Record<string, unknown>;
}

async function makeImage({ remove, write = {}, change = {}, file = {} }: Damage = {}) {
  const dir = await tempDir();
  const files = { vmlinux: 'kernel', initrd: 'first', 'root.erofs': 'root image' };
  const image = (name: keyof typeof files) => ({
    file: name,
    size: files[name].length,
    sha256: createHash('sha256').update(files[name]).digest('hex'),
  });
  const manifest = {
    version: 1,
    kind: 'minimal',
    system: 'x86_64-linux',
    agent: '0.1.0',
    protocol: [1],
    kernel: { ...image('vmlinux'), ...file },
    initrd: image('initrd'),
    root: image('root.erofs'),
    commandLine: 'quiet panic=-1',
    storePaths: [
      { storePath: '/nix/store/abcdfghijklmnpqrsvwxyz0123456789-a' },
      { storePath: '/nix/store/abcdfghijklmnpqrsvwxyz0123456789-b', narHash: `sha256-${'A'.repeat(43)}=` },
    ],
    ...change,
  };
  const all = { ...files, 'guest.json': JSON.stringify(manifest), ...write };
  for (const [name, content] of Object.entries(all)) await writeFile(join(dir.path, name), content);
  if (remove !== undefined) await rm(join(dir.path, remove));
  return { folder: dir.path, manifest, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}
