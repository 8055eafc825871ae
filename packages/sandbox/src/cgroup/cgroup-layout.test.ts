import { describe, expect, it } from 'vitest';
import { entryFile, parseCgroupLayout } from './cgroup-layout.ts';
import { unsupportedLimits } from './cgroup-limits.ts';

const ROOT = '23 1 254:0 / / rw,relatime - ext4 /dev/vda rw';
const V2 = '31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate';
const V1 = [
  '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
  '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct',
  '35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
  '36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices',
  '39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids',
  '40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd',
];
const UNIFIED = '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw';

describe('parseCgroupLayout()', () => {
  it('reads version 2 alone, with the controllers it has', () => {
    expect(parseCgroupLayout([ROOT, V2].join('\n'), 'cpuset cpu io memory hugetlb pids\n')).toEqual({
      hierarchies: [
        {
          version: 2,
          mountPoint: '/sys/fs/cgroup',
          parent: '/sys/fs/cgroup/nex-nix',
          controllers: ['memory', 'pids', 'cpu'],
        },
      ],
    });
    expect(parseCgroupLayout([ROOT, V2].join('\n'), 'pids\n').hierarchies[0]?.controllers).toEqual(['pids']);
  });

  it('reads version 1, a tree for each controller or for several', () => {
    expect(parseCgroupLayout([ROOT, ...V1].join('\n'), '')).toEqual({
      hierarchies: [
        {
          version: 1,
          mountPoint: '/sys/fs/cgroup/cpu,cpuacct',
          parent: '/sys/fs/cgroup/cpu,cpuacct/nex-nix',
          controllers: ['cpu', 'cpuacct'],
        },
        {
          version: 1,
          mountPoint: '/sys/fs/cgroup/memory',
          parent: '/sys/fs/cgroup/memory/nex-nix',
          controllers: ['memory'],
        },
        { version: 1, mountPoint: '/sys/fs/cgroup/pids', parent: '/sys/fs/cgroup/pids/nex-nix', controllers: ['pids'] },
      ],
    });
  });

  it('uses version 1 alone of a hybrid layout whose version 2 owns nothing of ours, and names the mount to hide', () => {
    const layout = parseCgroupLayout([ROOT, ...V1, UNIFIED].join('\n'), 'hugetlb\n');
    expect(layout.hide).toBe('/sys/fs/cgroup/unified');
    expect(layout.hierarchies.map(({ version }) => version)).toEqual([1, 1, 1]);
  });

  it('uses version 2 for what it owns of a hybrid layout, and hides its mount all the same', () => {
    const v1 = V1.filter((line) => !line.endsWith('rw,memory') && !line.endsWith('rw,pids'));
    const layout = parseCgroupLayout([ROOT, ...v1, UNIFIED].join('\n'), 'cpuset io memory hugetlb pids\n');
    expect(layout.hide).toBe('/sys/fs/cgroup/unified');
    expect(layout.hierarchies).toEqual([
      {
        version: 2,
        mountPoint: '/sys/fs/cgroup/unified',
        parent: '/sys/fs/cgroup/unified/nex-nix',
        controllers: ['memory', 'pids'],
      },
      {
        version: 1,
        mountPoint: '/sys/fs/cgroup/cpu,cpuacct',
        parent: '/sys/fs/cgroup/cpu,cpuacct/nex-nix',
        controllers: ['cpu', 'cpuacct'],
      },
    ]);
    // One file that both versions have.
    expect(entryFile(layout.hierarchies)).toBe('cgroup.procs');
    expect(unsupportedLimits(layout.hierarchies, { memory: 1, cpus: 1, pids: 1 })).toEqual([]);
  });

  it('puts everything below another cgroup where one is given', () => {
    const [hierarchy] = parseCgroupLayout([ROOT, V2].join('\n'), 'memory\n', '/nex.slice').hierarchies;
    expect(hierarchy?.parent).toBe('/sys/fs/cgroup/nex.slice/nex-nix');
  });

  it('takes a tree that is mounted twice once, and unescapes mount points', () => {
    const again = String.raw`50 23 0:32 / /mnt/my\040cgroup rw - cgroup cgroup rw,memory`;
    expect(parseCgroupLayout([again, ...V1].join('\n'), '').hierarchies[0]?.mountPoint).toBe('/mnt/my cgroup');
    expect(parseCgroupLayout([again, ...V1].join('\n'), '').hierarchies).toHaveLength(3);
  });

  it('finds nothing on a machine without cgroups', () => {
    expect(parseCgroupLayout(ROOT, '')).toEqual({ hierarchies: [] });
  });
});
