import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, startProcess } from '@nex-nix/test-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Controller, type Hierarchy, v2MountPoint } from '../src/cgroup/cgroup-layout.ts';
import { prepareCgroups, removeEmptyParents } from '../src/cgroup/cgroup.ts';
import { parsePids, removeCgroup } from '../src/cgroup/processes.ts';

const mountPoint = v2MountPoint(await readFile('/proc/self/mountinfo', 'utf8')) ?? '';
/** Any will do: what is shown is how the kernel lets controllers be handed down. On a hybrid machine few are there. */
const [controller = ''] =
  mountPoint === '' ? [] : (await readFile(join(mountPoint, 'cgroup.controllers'), 'utf8')).trim().split(' ');

describe.skipIf(controller === '' || process.getuid?.() !== 0)('a cgroup of version 2 that was delegated', () => {
  describeWith(['sleep'], 'and has processes', () => {
    const delegated = join(mountPoint, `nex-test-delegated-${process.pid}`);
    const hierarchy: Hierarchy = {
      version: 2,
      mountPoint,
      parent: join(delegated, 'nex-nix'),
      controllers: [controller as Controller],
    };
    const subtree = join(mountPoint, 'cgroup.subtree_control');
    let wasEnabled: boolean;

    beforeEach(async () => {
      wasEnabled = (await readFile(subtree, 'utf8')).split(/\s/).includes(controller);
      await mkdir(delegated);
    });
    afterEach(async () => {
      await removeEmptyParents({ hierarchies: [hierarchy] });
      await removeCgroup(delegated);
      if (!wasEnabled) await writeFile(subtree, `-${controller}`);
    });

    it('hands its controllers down once they have been moved aside, and is left as it was', async () => {
      await using keeper = startProcess('sleep', ['60']);
      await writeFile(join(delegated, 'cgroup.procs'), String(keeper.pid));
      expect(await prepareCgroups({ hierarchies: [hierarchy] })).toEqual([hierarchy]);
      expect(await readFile(join(hierarchy.parent, 'cgroup.controllers'), 'utf8')).toContain(controller);
      expect(await members(delegated)).toEqual([]);
      expect(await members(join(delegated, 'nex-nix-members'))).toEqual([keeper.pid]);
      // What is in use stays when a runtime closes.
      await removeEmptyParents({ hierarchies: [hierarchy] });
      expect(await members(join(delegated, 'nex-nix-members'))).toEqual([keeper.pid]);
      keeper.kill('SIGKILL');
      await keeper.exited;
      await removeEmptyParents({ hierarchies: [hierarchy] });
      await expect(members(join(delegated, 'nex-nix-members'))).rejects.toMatchObject({ code: 'ENOENT' });
    });

    it('is the only one whose processes are moved: not those of what is above it', async () => {
      const above = { ...hierarchy, parent: join(delegated, 'inner/nex-nix') };
      await mkdir(join(delegated, 'inner'));
      await using stranger = startProcess('sleep', ['60']);
      await writeFile(join(delegated, 'cgroup.procs'), String(stranger.pid));
      expect(await prepareCgroups({ hierarchies: [above] })).toEqual([{ ...above, controllers: [] }]);
      expect(await members(delegated)).toEqual([stranger.pid]);
      await removeEmptyParents({ hierarchies: [above] });
      await removeCgroup(join(delegated, 'inner'));
    });
  });
});

async function members(cgroup: string): Promise<number[]> {
  return parsePids(await readFile(join(cgroup, 'cgroup.procs'), 'utf8'));
}
