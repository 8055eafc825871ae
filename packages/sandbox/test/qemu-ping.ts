/**
 * In a network namespace of a test: makes a template of a guest whose interface is connected to nothing, restores it with a
 * tap device, and has it reach the other end. Prints what the guest says, and by what it was reached.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { makeNamespace, removeNamespace } from '../src/network/network-namespace.ts';
import { qemuBed, run } from './qemu-bed.ts';

const NAMESPACE = 'nex-qemu-ping';
const MAC = '02:00:00:00:00:07';

const user = 1_500_000_999;
await makeNamespace(NAMESPACE);
const ip = (command: string) => execFileSync('ip', ['-netns', NAMESPACE, ...command.split(' ')], { encoding: 'utf8' });
ip(`tuntap add dev tap0 mode tap user ${user}`);
ip('addr add 192.0.2.1/24 dev tap0');
ip('link set tap0 up');
{
  await using bed = await qemuBed();
  const first = await bed.boot({ network: true });
  await run(first, 'true');
  const template = await first.toTemplate(join(bed.path, 'template'));
  const vm = await bed.restore(template, {
    network: true,
    user,
    tap: { namespace: NAMESPACE, name: 'tap0', mac: MAC },
  });
  const up = `ip link set eth0 address ${MAC}; ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up`;
  process.stdout.write(await run(vm, `${up}; ping -c 1 -W 20 192.0.2.1`));
  process.stdout.write(ip('neigh show 192.0.2.2'));
}
await removeNamespace(NAMESPACE);
