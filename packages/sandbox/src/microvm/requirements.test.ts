import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { inspectMachine } from '../machine.ts';
import type { Requirement } from '../sandbox.ts';
import type { Vmm } from '../vmm/vmm.ts';
import { microvmRequirements } from './requirements.ts';

const machine = await inspectMachine();

/** A VMM of which only what it wants is asked. */
function vmmWith(requirements: Requirement[]): Vmm {
  const never = async () => expect.unreachable('nothing is started');
  return { name: 'qemu', check: async () => requirements, boot: never, reattach: never };
}

const fit: Requirement = { name: 'QEMU', essential: true, met: true, detail: '7.2' };

async function imageIn(folder: string, change: Record<string, unknown> = {}): Promise<void> {
  await mkdir(folder, { recursive: true });
  const file = async (name: string) => {
    await writeFile(join(folder, name), name);
    return { file: name, size: name.length, sha256: createHash('sha256').update(name).digest('hex') };
  };
  const manifest = {
    version: 1,
    kind: 'minimal',
    system: process.arch === 'arm64' ? 'aarch64-linux' : 'x86_64-linux',
    agent: '0.1.0',
    protocol: [1],
    kernel: await file('vmlinux'),
    initrd: await file('initrd'),
    root: await file('root.erofs'),
    commandLine: 'quiet',
    storePaths: [],
    ...change,
  };
  await writeFile(join(folder, 'guest.json'), JSON.stringify(manifest));
}

describe('what the microvm runtime needs', () => {
  it('is a guest image that is whole, is for this machine, and speaks our protocol', async () => {
    await using dir = await tempDir('nex-req-');
    const folder = join(dir.path, 'image');
    const image = async (guestImage: string | undefined) => {
      const all = await microvmRequirements(machine, { vmm: vmmWith([fit]), guestImage, qemuDir: dir.path });
      return all.find(({ name }) => name === 'guest image');
    };
    expect(await image(undefined)).toMatchObject({
      met: false,
      hint: expect.stringContaining('nex guest build') as string,
    });
    expect(await image(folder)).toMatchObject({
      met: false,
      detail: expect.stringContaining('no guest.json') as string,
    });
    await imageIn(folder);
    expect(await image(folder)).toEqual({
      name: 'guest image',
      essential: true,
      met: true,
      detail: `minimal, agent 0.1.0, 0 MiB (${folder})`,
    });
    await writeFile(join(folder, 'initrd'), 'dirtni');
    const damaged = await image(folder);
    expect(damaged).toMatchObject({
      met: false,
      detail: expect.stringContaining('"initrd" is not the one of its manifest') as string,
    });
    expect(damaged?.hint).toContain('nex guest build');
    await imageIn(folder, { system: process.arch === 'arm64' ? 'x86_64-linux' : 'aarch64-linux' });
    expect(await image(folder)).toMatchObject({
      met: false,
      detail: expect.stringContaining('this machine is') as string,
    });
    await imageIn(folder, { protocol: [999] });
    expect(await image(folder)).toMatchObject({
      met: false,
      detail: expect.stringContaining('no version of the protocol') as string,
    });
  });

  it('is named together with what is missing, and what to do', async () => {
    await using dir = await tempDir('nex-req-');
    const path = process.env['PATH'];
    process.env['PATH'] = dir.path;
    try {
      const all = await microvmRequirements(machine, { vmm: vmmWith([fit]), qemuDir: dir.path });
      expect(all.map(({ name }) => name)).toEqual(['root', 'QEMU', 'guest image', 'erofs tools', 'cgroups']);
      const unmet = all.filter(({ met }) => !met);
      expect(unmet.every(({ hint }) => hint !== undefined && hint !== '')).toBe(true);
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('tells of another VMM that would do when the chosen one is not there', async () => {
    await using dir = await tempDir('nex-req-');
    await writeFile(join(dir.path, 'firecracker'), '#!/bin/sh\necho Firecracker v1.16.1\n');
    await chmod(join(dir.path, 'firecracker'), 0o755);
    const path = process.env['PATH'];
    process.env['PATH'] = `${dir.path}:${path}`;
    try {
      const missing = { ...fit, met: false, hint: 'apt-get install qemu-system-x86' };
      const all = await microvmRequirements(machine, { vmm: vmmWith([missing]), qemuDir: dir.path });
      const firecracker = all.find(({ name }) => name === 'another VMM');
      const would = `--vmm firecracker would do: Firecracker v1.16.1 (${dir.path}/firecracker)`;
      expect(firecracker?.detail).toBe(existsSync('/dev/kvm') ? would : undefined);
    } finally {
      process.env['PATH'] = path;
    }
  });
});
