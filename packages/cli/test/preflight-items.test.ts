import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  describeWith,
  findTool,
  startNatsServer,
  startProcess,
  type TempDir,
  tempDir,
  type TestNatsServer,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Change, preflightOn } from './preflight-machine.ts';

vi.setConfig({ testTimeout: 60_000, maxConcurrency: 3 });

/** What is removed; then what is missing: of the essential, and of the optional; then what the first of them has for a hint. */
interface Removal extends Change {
  what: string;
  args?: readonly string[];
  essential?: readonly string[];
  optional?: readonly string[];
  hint: RegExp;
}

const BRIDGE = 'bridge network';

const REMOVALS: readonly Removal[] = [
  { what: 'crun', without: ['crun'], essential: ['OCI runtime', 'OCI runtime'], hint: /^apt-get install crun$/ },
  {
    what: 'a crun that works',
    scripts: { crun: 'case "$*" in *--version*) echo "crun 1.8"; echo +SECCOMP ;; *) echo no >&2; exit 1 ;; esac' },
    essential: ['a program runs in oci'],
    hint: /dmesg/,
  },
  {
    what: 'ip',
    without: ['ip'],
    optional: ['interfaces of the bridge network', BRIDGE],
    hint: /^apt-get install iproute2$/,
  },
  {
    what: 'iptables',
    without: ['iptables-restore'],
    optional: ['firewall of the bridge network', BRIDGE],
    hint: /^apt-get install iptables$/,
  },
  ...['bridge', 'host-local', 'portmap'].map((plugin) => ({
    what: `the plugin ${plugin}`,
    without: [plugin],
    optional: [`${plugin} CNI plugin`, BRIDGE],
    hint: /^apt-get install containernetworking-plugins$/,
  })),
  {
    what: 'a controller of cgroups',
    mounts: `if [ -d /sys/fs/cgroup/memory ]; then umount -l /sys/fs/cgroup/memory
      else echo cpu pids >$DATA/controllers; mount --bind $DATA/controllers /sys/fs/cgroup/cgroup.controllers; fi`,
    optional: ['cgroups'],
    hint: /no such limit can be set/,
  },
  {
    what: 'user namespaces',
    mounts: 'echo 0 >$DATA/zero; mount --bind $DATA/zero /proc/sys/user/max_user_namespaces',
    optional: ['user namespaces'],
    hint: /^sysctl user\.max_user_namespaces=/,
  },
  {
    what: 'the rights of root',
    prefix: ['setpriv', '--reuid', '65534', '--clear-groups', '--inh-caps=-all'],
    env: { HOME: '/nonexistent' },
    essential: ['root'],
    hint: /sudo/,
  },
  {
    what: 'room on the disk',
    mounts: 'mkdir $DATA/small; mount -t tmpfs -o size=1m tmpfs $DATA/small',
    args: ['--state-dir', '$DATA/small/state'],
    essential: ['disk space'],
    hint: /--state-dir/,
  },
  {
    what: 'a NATS server',
    args: ['-s', 'nats://127.0.0.1:1'],
    essential: ['NATS server'],
    hint: /nex dev/,
  },
  {
    what: 'a CNI configuration',
    args: ['--cni-config', '$DATA/absent.conflist'],
    essential: ['CNI Configuration'],
    hint: /--yes/,
  },
];

describeWith(
  ['nats-server', 'crun', 'ip', 'iptables', 'portmap', 'setpriv'],
  'preflight on a machine that lacks',
  () => {
    let folder: TempDir;
    let server: TestNatsServer;

    beforeAll(async () => {
      folder = await tempDir('nex-lacking-');
      server = await startNatsServer();
    });
    afterAll(async () => {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    });

    const preflight = async (args: readonly string[], change?: Change) => {
      const place = (text: string) => text.replaceAll('$DATA', folder.path);
      const words = ['-s', server.url, 'node', 'preflight', '--check', ...args.map(place)];
      return preflightOn(folder.path, words, { ...change, mounts: place(change?.mounts ?? '') });
    };

    it.concurrent.each(REMOVALS)('$what', async ({ args = [], essential = [], optional = [], hint, ...change }) => {
      const { code, report, items, missing } = await preflight(args, change);
      expect(missing.sort()).toEqual([...essential, ...optional].sort());
      const lacking = items.filter(({ met }) => !met);
      expect(lacking.filter((item) => item.essential).map(({ name }) => name)).toEqual(essential);
      expect(lacking[0]?.hint).toMatch(hint);
      expect({ code, ready: report.ready }).toEqual(
        essential.length === 0 ? { code: 0, ready: true } : { code: 1, ready: false },
      );
    });

    it.concurrent('nothing', async () => {
      expect(await preflight([])).toMatchObject({ code: 0, missing: [], report: { ready: true } });
    });

    it.concurrent('JetStream', async () => {
      await using without = await startNatsServer({ jetstream: false });
      const { code, items, missing } = await preflight(['-s', without.url]);
      expect({ code, missing }).toEqual({ code: 1, missing: ['JetStream'] });
      expect(items.find(({ name }) => name === 'JetStream')?.hint).toContain('--jetstream');
    });

    it.concurrent('the time of the server', async () => {
      const library = join(folder.path, 'later.so');
      await compile(LATER, library);
      const { code, items, missing } = await preflight([], { env: { LD_PRELOAD: library } });
      expect({ code, missing }).toEqual({ code: 1, missing: ['clock'] });
      expect(items.find(({ name }) => name === 'clock')).toMatchObject({
        detail: expect.stringMatching(/^3[56]\d{5} ms apart/) as string,
        hint: expect.stringContaining('timedatectl') as string,
      });
    });

    it.concurrent('what virtual machines need', async () => {
      const image = join(folder.path, 'no-guest');
      const vm = ['--sandboxes', 'microvm', '--guest-image', image];
      const device = ['null', 'zero', 'full', 'random', 'urandom', 'tty'].map(
        (name) => `touch d/${name}; mount --bind /dev/${name} d/${name}`,
      );
      const noKvm = ['cd $DATA; mkdir d; mount -t tmpfs tmpfs d', ...device, 'mount --move d /dev'].join('\n');
      const qemu = process.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
      const { code, missing } = await preflight([...vm, '--accel', 'kvm'], {
        without: [qemu, 'mkfs.erofs'],
        mounts: noKvm,
      });
      expect(code).toBe(1);
      expect(missing).toEqual(expect.arrayContaining(['QEMU', 'KVM', 'disks of closures', 'guest image']));
    });

    it.concurrent('apt-get: it tells how Nix has it', async () => {
      const { items } = await preflight([], { without: ['crun', 'apt-get'] });
      const hint = 'nix profile install nixpkgs#crun, or for a try nix-shell -p crun; on Debian: apt-get install crun';
      expect(items.find(({ met }) => !met)).toMatchObject({ name: 'OCI runtime', hint });
    });

    it.concurrent('something that --yes puts there', async () => {
      const config = join(folder.path, 'made/nex.conflist');
      const asked = join(folder.path, 'asked');
      // What it would have apt-get install, this uncovers.
      const apt = `echo "$@" >>${asked}; umount ${findTool('crun')}`;
      const args = ['-s', server.url, 'node', 'preflight', '--yes', '--cni-config', config];
      const { code, missing } = await preflightOn(folder.path, args, {
        without: ['crun'],
        scripts: { 'apt-get': apt },
      });
      expect({ code, missing }).toEqual({ code: 0, missing: [] });
      expect(await readFile(asked, 'utf8')).toMatch(/^-qq .*install -y --no-install-recommends crun\n$/);
      const written = JSON.parse(await readFile(config, 'utf8')) as { name: string; plugins: { type: string }[] };
      expect(written).toMatchObject({ name: 'nex', plugins: [{ type: 'bridge' }, { type: 'portmap' }] });
    });
  },
);

/** Clocks of a program that are an hour ahead: the kernel has no namespace for this one. */
const LATER = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, now);
  if (status == 0 && clock == CLOCK_REALTIME) now->tv_sec += 3600;
  return status;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
  int status = real(now, zone);
  if (status == 0) now->tv_sec += 3600;
  return status;
}
`;

async function compile(source: string, output: string): Promise<void> {
  await mkdir(join(output, '..'), { recursive: true });
  await writeFile(`${output}.c`, source);
  await using cc = startProcess(findTool('cc') ?? 'cc', ['-shared', '-fPIC', '-o', output, `${output}.c`, '-ldl']);
  expect((await cc.exited).code, cc.output()).toBe(0);
}
