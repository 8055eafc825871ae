import { spawnSync } from 'node:child_process';
import { describeWith, findTool } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { initrdEntries, rootEntries } from './guest-files.ts';

const FILES = {
  agent: Buffer.from('agent'),
  busybox: '/bin/busybox',
  node: '/bin/node',
  tools: { mkfs: '/sbin/mkfs.ext4' },
};

describeWith(['busybox'], 'files of the minimal guest', () => {
  it.each([
    ['the initrd', initrdEntries(Buffer.alloc(0), new Map()), 'init', '/nex/init'],
    ['the image', rootEntries({ ...FILES, socat: undefined }), 'nex/init', 'built without socat'],
    [
      'the image with socat',
      rootEntries({ ...FILES, socat: '/bin/socat' }),
      'nex/init',
      '/bin/socat VSOCK-LISTEN:1024,fork',
    ],
  ])('begin with a script that busybox understands: %s', (_title, entries, name, part) => {
    const entry = entries.find((one) => one.name === name);
    const script = entry !== undefined && 'content' in entry ? entry.content : '';
    expect(script).toContain(part);
    const { status, stderr } = spawnSync(findTool('busybox') ?? '', ['sh', '-n'], { input: script });
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
  });

  it('tell the agent how it is reached, and what ends the machine', () => {
    const entries = rootEntries({ ...FILES, socat: undefined });
    const config = (name: string): unknown => {
      const entry = entries.find((one) => one.name === name);
      return JSON.parse(entry !== undefined && 'content' in entry ? entry.content.toString() : '');
    };
    expect(config('nex/virtio.json')).toMatchObject({ channel: { port: 'nex.agent' }, end: 'poweroff', uid: 1000 });
    expect(config('nex/vsock.json')).toMatchObject({ channel: { listen: '/run/nex-agent.sock' }, end: 'reboot' });
    expect(config('nex/virtio.json')).toMatchObject({ tools: { mkfs: '/sbin/mkfs.ext4' }, runDir: '/run/nex' });
  });
});
