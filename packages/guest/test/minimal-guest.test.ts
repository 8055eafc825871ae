import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { buildMinimalGuest, findKernel, readGuestImage } from '@nex-nix/guest';

const TOOLS = ['mkfs.erofs', 'busybox', 'mkfs.ext4', 'linux-image'];
const HASH = 'abcdfghijklmnpqrsvwxyz0123456789';

describeWith(TOOLS, 'the minimal guest', () => {
  it('is the same bytes each time, and what its manifest says', { timeout: 60_000 }, async () => {
    await using bed = await makeBed();
    const [first, second] = [join(bed.folder, 'a/guest'), join(bed.folder, 'b/guest')];
    const options = { ...(await bed.options()), storePaths: [await bed.smallNode()] };
    const manifest = await buildMinimalGuest({ output: first, ...options });
    expect(await buildMinimalGuest({ output: second, ...options })).toEqual(manifest);
    expect(await digest(first)).toEqual(await digest(second));
    expect(await readGuestImage(first, { verify: true })).toEqual(manifest);
    expect(await readdir(join(bed.folder, 'a'))).toEqual(['guest']);
  });

  it('holds store paths, and runs its agent by the Node among them', async () => {
    await using bed = await makeBed();
    const node = { storePath: `/nix/store/${HASH}-nodejs-24.0.0`, source: join(bed.folder, 'node') };
    await mkdir(join(node.source, 'bin'), { recursive: true });
    await writeFile(join(node.source, 'bin/node'), 'the Node of the store path', { mode: 0o755 });
    const other = { storePath: `/nix/store/${HASH}-a`, source: node.source, narHash: `sha256-${'A'.repeat(43)}=` };
    const output = join(bed.folder, 'guest');
    const manifest = await buildMinimalGuest({ output, ...(await bed.options()), storePaths: [node, other] });
    expect(manifest.storePaths).toEqual([
      { storePath: other.storePath, narHash: other.narHash },
      { storePath: node.storePath },
    ]);
    const root = await readFile(join(output, 'root.erofs'), 'latin1');
    expect(root).toContain('the Node of the store path');
    expect(root).toContain(`${node.storePath}/bin/node --max-old-space-size`);
    // The Node of this machine is not in it: that alone is more than a hundred megabytes.
    expect(manifest.root.size).toBeLessThan(32 << 20);
  });

  it('does not take the place of what is there, unless that is wanted; then it does so at the end', async () => {
    await using bed = await makeBed();
    const output = join(bed.folder, 'guest');
    await mkdir(output);
    await writeFile(join(output, 'mine'), '');
    const options = { output, ...(await bed.options()) };
    await expect(buildMinimalGuest(options)).rejects.toMatchObject({
      code: 'GUEST_BUILD_FAILED',
      hint: 'Add --replace to put a new one in its place',
    });
    await expect(buildMinimalGuest({ ...options, replace: true })).rejects.toMatchObject({
      code: 'GUEST_BUILD_FAILED',
      message: `Cannot replace "${output}": "mine" is of no guest image`,
    });
    expect(await readdir(output)).toEqual(['mine']);
    await rm(join(output, 'mine'));
    await writeFile(join(output, 'vmlinux'), 'of an earlier image');
    const broken = buildMinimalGuest({ ...options, replace: true, kernel: { kernel: '/etc/hosts', modules: '/etc' } });
    await expect(broken).rejects.toMatchObject({ code: 'GUEST_BUILD_FAILED' });
    expect(await readdir(output)).toEqual(['vmlinux']);
    const stopped = buildMinimalGuest({ ...options, replace: true, signal: AbortSignal.timeout(1) });
    await expect(stopped).rejects.toMatchObject({ name: expect.stringMatching(/^(?:Timeout|Abort)Error$/) as string });
    expect(await readdir(bed.folder)).toEqual(['guest']);
    // Left by a builder that was killed: no process has that number, which is the highest there can be.
    await mkdir(join(bed.folder, '.guest.4194304.0123abcd', 'image'), { recursive: true });
    await buildMinimalGuest({ ...options, storePaths: [await bed.smallNode()], replace: true });
    expect((await readdir(output)).sort()).toEqual(['guest.json', 'initrd', 'root.erofs', 'vmlinux']);
    expect((await readdir(bed.folder)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('cannot be built from a file that is no package of a kernel', async () => {
    await using bed = await makeBed();
    const file = join(bed.folder, 'no.deb');
    await writeFile(file, 'text');
    const building = buildMinimalGuest({ output: join(bed.folder, 'guest'), kernel: { package: file } });
    await expect(building).rejects.toMatchObject({
      code: expect.stringMatching(/^GUEST_(?:BUILD_FAILED|TOOL_MISSING)$/) as string,
      message: expect.stringContaining(`Cannot unpack the kernel package "${file}"`) as string,
    });
    expect(await readdir(bed.folder)).toEqual(['no.deb']);
  });
});

async function makeBed() {
  const dir = await tempDir('nex-test-', { inMemory: true });
  return {
    folder: dir.path,
    options: async () => ({ kernel: await findKernel(findTool('linux-image')) }),
    /** Spares the tests the Node of this machine, which is large. */
    async smallNode() {
      const source = join(dir.path, 'small-node');
      await mkdir(join(source, 'bin'), { recursive: true });
      await writeFile(join(source, 'bin/node'), '', { mode: 0o755 });
      return { storePath: `/nix/store/${HASH}-nodejs-24.0.0`, source };
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

async function digest(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const name of (await readdir(folder)).sort()) {
    files[name] = createHash('sha256')
      .update(await readFile(join(folder, name)))
      .digest('hex');
  }
  return files;
}
