import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { PORT_NAME, readGuestImage, VSOCK_PORT } from '@nex-nix/guest';
import { describeEachNix, describeWith, findTool, GUEST_TOOLS, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleAgent } from '../../packages/guest/bundle-agent.ts';
import type { GuestConfig } from '../../packages/guest/src/agent/guest-config.ts';
import { readUnits, unitFiles, type Units } from './units.ts';
import { microvmBed, TIMEOUT } from '../../packages/sandbox/test/microvm-bed.ts';
import { systemdGuest } from './systemd-guest.ts';
import { StubbedFlake, SYSTEM } from './flake.ts';

const run = promisify(execFile);

/** What it takes to boot the image's units, with the systemd of this machine. */
const BOOT_TOOLS = [...GUEST_TOOLS, 'systemd'];

describeWith(['nix', 'bash', 'mkfs.erofs', 'fsck.erofs', 'strip', 'mkfs.ext4'], 'guest image of the flake', () => {
  describeEachNix('built with a stub of nixpkgs', (nix) => {
    if (!nix.isAtLeast('2.18')) {
      it.skip('(skipped: nixpkgs takes Nix 2.18 and later)');
      return;
    }

    let folder: TempDir;
    let flake: StubbedFlake;
    let image: string;
    /** The content of its root image. */
    let root: string;
    let units: Units;

    beforeAll(async () => {
      folder = await tempDir();
      flake = await StubbedFlake.make(folder.path);
      await bundleAgent(join(folder.path, 'agent.cjs'));
      image = await flake.build(nix, 'guest-image');
      root = join(folder.path, 'root');
      await run('fsck.erofs', [`--extract=${root}`, join(image, 'root.erofs')]);
      const system = (await readdir(root)).find((name) => name.endsWith('-nixos-system-guest')) ?? '';
      units = await readUnits(join(root, system));
    });
    afterAll(async () => {
      // The next Nix is to build it itself.
      if (process.arch === 'x64') await flake.unbuild(nix, `checks.${SYSTEM}.guest-boot`);
      else await flake.unbuild(nix, `packages.${SYSTEM}.guest-image`);
      await folder[Symbol.asyncDispose]();
    });

    it('is one that hosts take, hashes included', async () => {
      const manifest = await readGuestImage(image, { verify: true });
      expect(manifest).toMatchObject({ kind: 'nixos', system: SYSTEM });
      const { version } = JSON.parse(await readFile(join(flake.folder, 'packages/guest/package.json'), 'utf8')) as {
        version: string;
      };
      expect(manifest.agent).toBe(version);
      expect(await readdir(image)).toEqual(['guest.json', 'initrd', 'root.erofs', 'vmlinux']);
    });

    it('has exactly the store paths in its root image that its manifest names, as the store knows them', async () => {
      const { storePaths } = await readGuestImage(image);
      expect((await readdir(root)).toSorted()).toEqual(storePaths.map(({ storePath }) => basename(storePath)));
      const paths = storePaths.map(({ storePath }) => storePath);
      const stored = (await nix.run('nix-store', '--query', '--hash', ...paths)).toString().trim().split('\n');
      const hashes = await nix.run('nix', 'hash', 'to-sri', '--type', 'sha256', ...stored);
      expect(storePaths.map(({ narHash }) => narHash)).toEqual(hashes.toString().trim().split('\n'));
      for (const storePath of paths) {
        const [inImage, inStore] = await Promise.all(
          [join(root, basename(storePath)), storePath].map((path) => nix.run('nix-store', '--dump', path)),
        );
        expect(inImage?.equals(inStore ?? Buffer.of())).toBe(true);
      }
    });

    it('leaves out what the host boots from', async () => {
      const { storePaths } = await readGuestImage(image);
      const names = storePaths.map(({ storePath }) => basename(storePath).slice(33));
      expect(names).toContain('nixos-system-guest');
      expect(names.filter((name) => /^(?:linux|initrd)/.test(name))).toEqual([]);
    });

    it('boots the system that it holds', async () => {
      const { commandLine, storePaths } = await readGuestImage(image);
      const init = /(?:^| )init=(\S+)\/init$/.exec(commandLine)?.[1];
      expect(storePaths.map(({ storePath }) => storePath)).toContain(init);
      expect(commandLine).toContain('root=fstab ');
    });

    it('keeps nothing in the store of the host but itself', async () => {
      expect((await nix.run('nix-store', '--query', '--references', image)).toString()).toBe('');
    });

    it.each([
      ['virtio', { port: PORT_NAME }, 'poweroff'],
      ['vsock', { listen: '/run/nex-guest/agent.sock' }, process.arch === 'x64' ? 'reboot' : 'poweroff'],
    ] as const)('tells its agent all about itself, over %s', async (channel, opened, end) => {
      const agent = units.services[`nex-guest-agent-${channel}`];
      const [program = '', config = '', ...more] = agent?.serviceConfig?.['ExecStart']?.toString().split(' ') ?? [];
      expect(more).toEqual([]);
      expect(await readdir(root)).toContain(storeName(program));
      const known: GuestConfig = {
        channel: opened,
        imageStore: '/nix/store',
        slots: ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'].map((letter) => `/dev/vd${letter}`),
        tools: { mkfs: expect.stringMatching(/^\/nix\/store\/\S+-e2fsprogs\/bin\/mkfs\.ext4$/) as string },
        runDir: '/run/nex-guest',
        uid: 1000,
        gid: 1000,
        end,
      };
      const told = JSON.parse(await readFile(join(root, storeName(config)), 'utf8')) as GuestConfig;
      expect(told).toEqual(known);
      expect(await readdir(root)).toContain(storeName(told.tools.mkfs ?? ''));
      expect(agent?.unitConfig).toMatchObject({ FailureAction: `${end}-immediate`, SuccessAction: `${end}-immediate` });
    });

    it('has one agent, whatever the kernel is told of the channel', () => {
      const conditions = ['virtio', 'vsock'].map(
        (channel) => units.services[`nex-guest-agent-${channel}`]?.unitConfig?.['ConditionKernelCommandLine'],
      );
      expect(conditions).toEqual(['!nex.channel=vsock', 'nex.channel=vsock']);
      expect(units.sockets['nex-guest-vsock']).toMatchObject({
        listenStreams: [`vsock::${VSOCK_PORT}`],
        unitConfig: { ConditionKernelCommandLine: 'nex.channel=vsock' },
      });
    });

    it.skipIf(findTool('systemd-analyze') === undefined)('has units that systemd takes', async () => {
      const files = unitFiles(units);
      expect(files).toHaveLength(4);
      const written = files.map(({ name }) => join(folder.path, name));
      await Promise.all(files.map(({ text }, index) => writeFile(written[index] ?? '', text)));
      const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', ...written]);
      const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('nex-guest'));
      expect(ours).toEqual([]);
    });

    it('is the same bytes when it is built again', async () => {
      await flake.run(nix, ['build', '--no-link', '--rebuild'], 'guest-image');
    });

    it.skipIf(BOOT_TOOLS.some((tool) => findTool(tool) === undefined))(
      `runs programs below the agent's own unit when systemd starts it (with ${BOOT_TOOLS.join(', ')})`,
      { timeout: TIMEOUT },
      async () => {
        const guest = join(folder.path, 'guest');
        await systemdGuest(image, guest);
        await using bed = await microvmBed({ guestImage: guest, poolSize: 0, useTemplates: false });
        const script = 'cat /proc/self/cgroup; id -u; x=0123456789abcdef; while :; do x=$x$x; done';
        const { exit, stdout } = await bed.run(script, { resources: { memory: 32 << 20 } });
        const [cgroup, user] = stdout.split('\n');
        expect(cgroup).toMatch(/^0::\/system\.slice\/nex-guest-agent-virtio\.service\/./);
        expect(user).toBe('1000');
        // Its end is reported by an agent that is alive still.
        expect(exit).toMatchObject({ code: 137, outOfMemory: true });
      },
    );

    it.skipIf(process.arch !== 'x64')('is booted by a check that has all the sources it runs', async () => {
      const script = await readFile(await flake.build(nix, `checks.${SYSTEM}.guest-boot`), 'utf8');
      const [, command = '', asked] = /"node (\S+ \S+)"\s+" (\S+) /.exec(script) ?? [];
      expect(asked).toBe(image);
      await expect(run('node', command.split(' '))).rejects.toMatchObject({
        stderr: expect.stringContaining('Error: usage: '),
      });
    });

    it('has the agent that the minimal guest has', async () => {
      const agent = await flake.build(nix, 'guest-agent');
      const [own, bundled] = await Promise.all(
        [join(agent, 'lib/nex-guest-agent'), folder.path].map((path) => readFile(join(path, 'agent.cjs'), 'utf8')),
      );
      expect(own).toBe(bundled);
      await expect(run(join(agent, 'bin/nex-guest-agent'))).rejects.toMatchObject({
        stderr: expect.stringContaining('Usage'),
      });
    });
  });
});

function storeName(path: string): string {
  return path.split('/')[3] ?? '';
}
