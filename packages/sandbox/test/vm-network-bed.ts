import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import type { VmAttachment } from '../src/network/vm-networks.ts';
import { MACHINE, openNamespace, OUTSIDE, runIn, startCalls, TRACES } from './network-bed.ts';
import type { VmNetworkProcess } from './vm-network-process.ts';

const USER = 65_534;

/** A machine for virtual machines and one beside it, as `openNetworkBed()` makes them. */
export async function openVmNetworkBed() {
  await using stack = new AsyncDisposableStack();
  const namespace = async () => stack.adopt(await openNamespace(), (holder) => void holder.kill('SIGKILL'));
  const dir = stack.use(await tempDir('nex-vm-network-'));
  const stateDir = join(dir.path, 'state');
  const machine = await namespace();
  const outside = await namespace();
  await runIn(
    machine,
    `ip link add out0 type veth peer name out0 netns ${outside.pid}
     ip addr add ${MACHINE}/24 dev out0; ip link set out0 up; echo 1 >/proc/sys/net/ipv4/ip_forward`,
  );
  await runIn(outside, `ip addr add ${OUTSIDE}/24 dev out0; ip link set out0 up`);
  const start = (environment?: Record<string, string>) =>
    startCalls<VmNetworkProcess>(machine, ['vm-network-process.ts', stateDir], environment);
  const { remote, end } = start();
  stack.defer(end);
  const owned = stack.move();

  /** Runs a server in a namespace that greets whoever connects; ends with the bed. */
  const greet = (where: ChildProcess, port: number, greeting: string) => {
    const command = ['busybox', 'nc', '-ll', '-p', String(port), '-e', 'busybox', 'echo', greeting];
    const server = spawn('nsenter', [`--target=${where.pid}`, '--net', '--mount', ...command], { stdio: 'ignore' });
    owned.defer(() => void server.kill('SIGKILL'));
  };

  return {
    path: dir.path,
    networks: remote,
    /** Another process on the machine, which may die. */
    another: start,
    machine,
    outside,
    onMachine: (command: string) => runIn(machine, command),
    traces: () => runIn(machine, TRACES),
    greet,
    prepare: (id: string) => remote.prepare(id, USER),
    /**
     * A guest: a network namespace with a cable in the place of the tap device that a VMM would open. What a frame of it
     * meets is the same, and it can be given any address.
     */
    async guest(id: string) {
      const { namespace, name } = await remote.prepare(id, USER);
      const guest = owned.adopt(await openNamespace(), (holder) => void holder.kill('SIGKILL'));
      await runIn(
        machine,
        `ip -netns ${namespace} link delete ${name}
         ip -netns ${namespace} link add ${name} type veth peer name eth0 netns ${guest.pid}`,
      );
      return {
        namespace,
        holder: guest,
        run: (command: string) => runIn(guest, command),
        /** Does what an agent does with what it is told. */
        async identify({ network }: VmAttachment): Promise<void> {
          const { mac, addresses, gateways, mtu } = network ?? { mac: '', addresses: [], gateways: [], mtu: 0 };
          await runIn(
            guest,
            `ip link set eth0 address ${mac} mtu ${mtu} up
             ${addresses.map((address) => `ip addr add ${address} dev eth0`).join('\n')}
             ${gateways.map((gateway) => `ip route add default via ${gateway}`).join('\n')}`,
          );
        },
      };
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** What greets whoever connects to a port of a host, or `-`. */
export function ask(host: string, port: number): string {
  return `busybox nc -w 1 ${host} ${port} </dev/null 2>/dev/null || echo -`;
}
