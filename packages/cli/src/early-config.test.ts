import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { Config, readConfig } from './config-files.ts';
import { buildProgram } from './program.ts';
import type { Command } from 'commander';

/** A node's configuration as Nex 0.1.5 had it. */
const NODE = {
  default_resource_dir: '/tmp/wd',
  machine_pool_size: 3,
  cni: { network_name: 'fcnet', interface_name: 'veth0' },
  machine_template: { vcpu_count: 2, memsize_mib: 512 },
  tags: { simple: 'true' },
};

/** What the options of `nex node up` amount to with a file and a command line. */
async function optionsWith(values: unknown, ...args: string[]): Promise<Record<string, unknown>> {
  await using folder = await tempDir('nex-early-');
  const file = join(folder.path, 'node.json');
  await writeFile(file, JSON.stringify(values));
  const argv = ['--config', file, 'node', 'up', ...args];
  const program = await buildProgram(argv);
  let up: Command | undefined;
  const find = (command: Command): void => {
    if (command.name() === 'up') up = command.action(() => undefined);
    command.commands.forEach(find);
  };
  find(program);
  await program.parseAsync(argv, { from: 'user' });
  if (up === undefined) throw new Error('There is no such command');
  return up.optsWithGlobals<Record<string, unknown>>();
}

describe("a node's configuration file of Nex 0.1.5", () => {
  it('stands for the options of the same meaning', async () => {
    expect(await optionsWith(NODE)).toMatchObject({
      guestImage: '/tmp/wd',
      machinePoolSize: 3,
      machineVcpus: 2,
      machineMemory: 512 * 2 ** 20,
      cniNetwork: 'fcnet',
      tags: { simple: 'true' },
    });
  });

  it('gives way to the command line, and to the same things by the names that they have now', async () => {
    const flags = [
      '--guest-image',
      '/g',
      '--machine-pool-size',
      '0',
      '--machine-memory',
      '1GiB',
      '--machine-vcpus',
      '4',
    ];
    const asked = { guestImage: '/g', machinePoolSize: 0, machineMemory: 2 ** 30, machineVcpus: 4 };
    expect(await optionsWith(NODE, ...flags)).toMatchObject(asked);
    const named = { guest_image: '/g', machine_pool_size: 0, machine_memory: '1GiB', machine_vcpus: 4 };
    expect(await optionsWith({ ...NODE, ...named })).toMatchObject(asked);
  });

  it('may hold what its defaults are', async () => {
    const file = {
      ...NODE,
      tags: {},
      default_resource_dir: '',
      machine_template: null,
      cni: {},
      bin_path: ['/a', '/b'],
    };
    const options = await optionsWith(file);
    expect(options).toMatchObject({ binPath: ['/a', '/b'], machineVcpus: 1 });
    expect(options['guestImage']).toBeUndefined();
  });

  it('may name the parts of a guest, when they lie in one folder', async () => {
    const parts = { kernel_filepath: '/guests/a/vmlinux', rootfs_filepath: '/guests/a/rootfs.ext4' };
    expect(await optionsWith(parts)).toMatchObject({ guestImage: '/guests/a' });
    const apart = { ...parts, kernel_filepath: '/boot/vmlinux' };
    await expect(optionsWith(apart)).rejects.toThrow(
      /"kernel_filepath", "rootfs_filepath" of .*must lie in one folder/,
    );
  });

  it.each([
    [{ machine_pool_size: '3' }, /the key "machine_pool_size" of ".*node\.json": it is a string, and must be a whole/],
    [{ machine_template: 5 }, /the key "machine_template" of .*: it is a number, and must be an object/],
    [{ machine_template: { memsize_mib: [256] } }, /the key "machine_template\.memsize_mib" of .*: it is a list/],
    [{ machine_template: { vcpu_count: 1.5 } }, /the key "machine_template\.vcpu_count" of .*must be a whole number/],
    [{ cni: { network_name: 1 } }, /the key "cni\.network_name" of .*: it is a number, and must be text/],
    [{ workload_types: 'elf' }, /the key "workload_types" of .*: it is a string, and must be a list of texts/],
    [{ rate_limiters: [] }, /the key "rate_limiters" of .*: it is a list, and must be an object/],
    [{ machine_template: { memsize_mib: 64 } }, /"machine_template\.memsize_mib" of .*: Cannot give machines 64MiB/],
  ])('is refused with key and file when it holds %j', async (values, message) => {
    await expect(optionsWith({ ...NODE, ...values })).rejects.toThrow(message);
  });

  it('tells which of its keys have no meaning any more', async () => {
    const idle = { internal_node_port: 9222, preserve_network: false, workload_types: ['elf'], kernel_filepath: '/k' };
    const values = { ...NODE, ...idle, valid_issuers: null, unknown: 1 };
    const { idleKeys } = new Config([
      { file: 'a', values },
      { file: 'b', values: { namespace: 'x' } },
    ]);
    const keys = ['cni.interface_name', 'kernel_filepath', 'internal_node_port', 'preserve_network', 'workload_types'];
    expect(idleKeys).toEqual([{ file: 'a', keys }]);
  });

  it('is found in the working folder', async () => {
    await using folder = await tempDir('nex-early-');
    await mkdir(join(folder.path, 'cwd'));
    await writeFile(join(folder.path, 'cwd/config.json'), JSON.stringify(NODE));
    const before = process.cwd();
    process.chdir(join(folder.path, 'cwd'));
    try {
      const config = await readConfig(undefined, { HOME: folder.path });
      expect(config.get('guest-image')).toEqual({
        value: '/tmp/wd',
        origin: 'the key "default_resource_dir" of "config.json"',
      });
    } finally {
      process.chdir(before);
    }
  });
});
