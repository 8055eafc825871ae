import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeWith, GUEST_TOOLS, guestImage, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { buildEcho } from '../../examples/echo/build-echo.ts';

const run = promisify(execFile);
const NETWORK = ['ip', 'iptables', 'unshare', 'host-local', 'portmap'];

/** What the scene prints. */
interface Outcome {
  lines: ({ msg: string } & Record<string, unknown>)[];
}

describeWith(
  ['nats-server', 'nix-build', 'patchelf', ...NETWORK, ...GUEST_TOOLS],
  'a node with virtual machines',
  () => {
    it('runs the echo service in one, keeps it when it is killed, and leaves nothing', async () => {
      await using folder = await tempDir('nex-vm-echo-');
      const [image, { storePath }] = await Promise.all([guestImage(), buildEcho({ dataDir: folder.path })]);
      const scene = join(import.meta.dirname, 'microvm-scene.ts');
      const setUp = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"';
      const program = [process.execPath, '--conditions=nexsrc', scene, image, storePath];
      const namespace = ['--net', '--mount', '--propagation', 'private', 'sh', '-c', setUp, 'sh'];
      const options = { timeout: 240_000, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 } as const;
      const { stdout } = await run('unshare', [...namespace, ...program], options);
      const { lines, ...outcome } = JSON.parse(stdout) as Outcome;

      expect(outcome).toMatchObject({
        reply: 'hello',
        // By way of the node: nothing else leads out of the guest.
        said: expect.stringMatching(/^10\.217\.64\.1:\d+$/) as string,
        sandbox: 'microvm',
        // Of the killed node: its pool. The workload's own machine is nobody's leftover.
        leftovers: ['/machines/.machines'],
        again: 'again',
        adopted: 'running',
        stopping: true,
        code: 0,
        left: { processes: [], mounts: [], cgroups: [], links: [], rules: [] },
      });
      const words = lines.map(({ msg }) => msg);
      const wanted = [
        'Established node NATS connection',
        expect.stringMatching(/^Loaded node configuration from '.*config\.json'$/) as string,
        'Use this key as the recipient for encrypted run requests',
        'Virtual machine manager starting',
        'NATS execution engine awaiting commands',
        'Machine started',
        'Received agent handshake',
        'Adding new VM to warm pool',
      ];
      for (const line of wanted) expect(words).toContainEqual(line);
      const line = (text: string) => lines.find(({ msg }) => msg.startsWith(text));
      expect(line('Loaded node configuration')?.['config_path']).toMatch(/config\.json$/);
      expect(line('Use this key')?.['public_xkey']).toMatch(/^X[A-Z2-7]{55}$/);
      const vmid = line('Adding new VM')?.['vmid'];
      for (const text of ['Machine started', 'Received agent handshake']) {
        expect(lines).toContainEqual(expect.objectContaining({ msg: text, vmid }));
      }
      expect(line('settings of earlier versions')?.['keys']).toEqual(['cni.interface_name', 'workload_types']);
    }, 270_000);
  },
);
