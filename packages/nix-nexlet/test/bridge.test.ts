import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { TOOLS } from './bed.ts';

const run = promisify(execFile);

describeWith([...TOOLS, 'ip', 'iptables', 'unshare', 'host-local', 'portmap'], 'workloads at the bridge', () => {
  it('reach NATS through their node, and do so again when the node comes back', async () => {
    const scene = join(import.meta.dirname, 'bridge-scene.ts');
    const setUp = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"';
    const node = [process.execPath, '--conditions=nexsrc', scene];
    const namespace = ['--net', '--mount', '--propagation', 'private', 'sh', '-c', setUp, 'sh'];
    const { stdout } = await run('unshare', [...namespace, ...node], { timeout: 50_000, killSignal: 'SIGKILL' });
    expect(JSON.parse(stdout)).toEqual({ address: 'at 10.217.64.1', again: true, left: [] });
  }, 60_000);
});
