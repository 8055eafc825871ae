import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeKillingTools, NETWORK_TOOLS, OUTSIDE } from './network-bed.ts';
import { ask, openVmNetworkBed } from './vm-network-bed.ts';

const GATEWAY = '10.217.64.1';

describeWith(NETWORK_TOOLS, 'network of virtual machines', () => {
  let bed: Awaited<ReturnType<typeof openVmNetworkBed>>;

  beforeAll(async () => {
    bed = await openVmNetworkBed();
    bed.greet(bed.outside, 7000, 'outside');
    bed.greet(bed.machine, 7002, 'everywhere');
    bed.greet(bed.machine, 4222, 'relay');
    await waitFor('the servers', async () => {
      const said = await Promise.all([7002, 4222].map((port) => bed.onMachine(ask('127.0.0.1', port))));
      return !said.includes('-\n') && (await bed.onMachine(ask(OUTSIDE, 7000))) !== '-\n';
    });
  });
  afterAll(() => bed?.[Symbol.asyncDispose]());

  it('a machine has a tap device of its user in a namespace of its own, which is down and leads nowhere', async () => {
    const { namespace, name, mac } = await bed.prepare('vm-tap');
    const link = await bed.onMachine(`ip -netns ${namespace} -details -o link show dev ${name}`);
    expect(link).toMatch(/state DOWN/);
    expect(link).toMatch(/tun type tap .*user (nobody|65534)/);
    expect(mac).toMatch(/^02(:[0-9a-f]{2}){5}$/);
    expect(await bed.onMachine(`ip -netns ${namespace} route`)).toBe('');
    expect(await bed.networks.addresses('vm-tap')).toEqual([]);
    expect(await bed.networks.connect('vm-tap', { id: 's', network: 'none' })).toEqual({
      addresses: [],
      resolvConf: '',
    });
    await expect(bed.networks.connect('vm-tap', { id: 's', network: 'host' })).rejects.toMatchObject({
      code: 'SANDBOX_SPEC_INVALID',
    });
    await bed.networks.detach('vm-tap');
    expect(await bed.traces()).toBe('');
  });

  it('a guest reaches what a sandbox at the bridge does, is reached at exposed ports, and is counted', async () => {
    expect(await bed.networks.gateway([4222])).toBe(GATEWAY);
    const guest = await bed.guest('vm-a');
    const attachment = await bed.networks.connect('vm-a', { id: 'a', network: 'bridge', exposePorts: [8001] });
    expect(attachment.network).toMatchObject({ gateways: [GATEWAY], mtu: 1500 });
    const [address = ''] = attachment.addresses;
    expect(await bed.networks.addresses('vm-a')).toEqual([address]);
    await guest.identify(attachment);
    const other = await bed.guest('vm-b');
    const otherAttachment = await bed.networks.connect('vm-b', { id: 'b', network: 'bridge' });
    await other.identify(otherAttachment);
    const [otherAddress = ''] = otherAttachment.addresses;
    bed.greet(guest.holder, 8001, 'exposed');
    bed.greet(guest.holder, 9001, 'hidden');
    bed.greet(other.holder, 9002, 'neighbour');
    await waitFor('the ports', async () => (await bed.onMachine(ask(address, 8001))) !== '-\n');
    await waitFor('the neighbour', async () => (await bed.onMachine(ask(otherAddress, 9002))) !== '-\n');
    const tell = (...places: [string, number][]) => places.map(([host, port]) => ask(host, port)).join('\n');
    expect(await guest.run(tell([GATEWAY, 4222], [OUTSIDE, 7000], [GATEWAY, 8001]))).toBe('relay\noutside\nexposed\n');
    expect(await guest.run(tell([GATEWAY, 7002], [otherAddress, 9002]))).toBe('-\n-\n');
    expect(await other.run(tell([GATEWAY, 8001], [address, 9001]))).toBe('exposed\n-\n');
    expect(await bed.onMachine(ask('127.0.0.1', 8001))).toBe('exposed\n');

    await guest.run(`busybox ping -q -c 3 -i 0.1 -s 1400 ${OUTSIDE}`);
    const { received = 0, sent = 0 } = (await bed.networks.usage('vm-a')) ?? {};
    expect(received).toBeGreaterThan(4200);
    expect(sent).toBeGreaterThan(4200);
    expect(await bed.networks.usage('vm-none')).toBeUndefined();

    await bed.networks.detach('vm-a');
    await bed.networks.detach('vm-b');
    expect(await bed.traces()).toBe('');
  });

  it('security: a guest that says it is somebody else reaches nobody, and no frame of its gets to the bridge', async () => {
    const guest = await bed.guest('vm-a');
    const attachment = await bed.networks.connect('vm-a', { id: 'a', network: 'bridge' });
    await guest.identify(attachment);
    const victim = await bed.guest('vm-b');
    const victimAttachment = await bed.networks.connect('vm-b', { id: 'b', network: 'bridge' });
    await victim.identify(victimAttachment);
    const [address = ''] = attachment.addresses;
    const [victimAddress = ''] = victimAttachment.addresses;
    const reaches = (from: string, to: string) =>
      guest.run(`busybox ping -q -c 1 -W 1 -I ${from} ${to} >/dev/null && echo yes || echo no`);
    expect(await reaches(address, OUTSIDE)).toBe('yes\n');

    // Another IPv4 address: of a neighbour, of the gateway, of nobody.
    for (const stolen of [victimAddress, GATEWAY, '10.217.70.70', '192.0.2.77']) {
      await guest.run(`ip addr add ${stolen}/32 dev eth0`);
      expect(await reaches(stolen, OUTSIDE), stolen).toBe('no\n');
      await guest.run(`busybox arping -q -c 1 -w 1 -U -I eth0 -s ${stolen} ${stolen} || true`);
      await guest.run(`ip addr del ${stolen}/32 dev eth0`);
    }
    // Who has those addresses has not changed for anybody.
    expect(await victim.run(`busybox ping -q -c 1 -W 1 ${OUTSIDE} >/dev/null && echo yes`)).toBe('yes\n');
    expect(await bed.onMachine(`busybox ping -q -c 1 -W 1 ${victimAddress} >/dev/null && echo yes`)).toBe('yes\n');

    // Nobody has to hear from it first.
    await bed.onMachine(`ip -netns ${guest.namespace} neigh flush all`);
    expect(await bed.onMachine(`busybox ping -q -c 1 -W 1 ${address} >/dev/null && echo yes`)).toBe('yes\n');

    // Another MAC address, also that of the gateway: it stays where it is.
    const gatewayMac = (await bed.onMachine('cat /proc/net/arp; ip -o link show dev nex0')).match(
      /ether ([0-9a-f:]{17})/,
    )?.[1];
    await guest.run(`ip link set eth0 address ${gatewayMac}; busybox ping -q -c 1 -W 1 ${OUTSIDE} >/dev/null || true`);
    await guest.run('ip link set eth0 address 02:00:00:00:00:99');
    expect(await reaches(address, OUTSIDE)).toBe('yes\n');
    expect(await bed.onMachine('bridge fdb show br nex0')).not.toContain('02:00:00:00:00:99');
    expect(await bed.onMachine('ip neigh show dev nex0')).not.toContain('02:00:00:00:00:99');

    // A frame straight to the neighbour, past the firewall: there is nobody to take it.
    const mac = victimAttachment.network?.mac ?? '';
    await guest.run(`ip neigh replace ${victimAddress} lladdr ${mac} dev eth0; ip route add ${victimAddress} dev eth0`);
    expect(await reaches(address, victimAddress)).toBe('no\n');
    await bed.networks.detach('vm-a');
    await bed.networks.detach('vm-b');
  });

  it('a port of another sandbox is refused, with the name of the sandbox; what is made by then goes', async () => {
    await bed.prepare('vm-a');
    await bed.prepare('vm-b');
    await bed.networks.connect('vm-a', { id: 'first', network: 'bridge', exposePorts: [7003] });
    await expect(
      bed.networks.connect('vm-b', { id: 'second', network: 'bridge', exposePorts: [7003] }),
    ).rejects.toMatchObject({ code: 'SANDBOX_PORT_TAKEN', message: expect.stringContaining('the sandbox "first"') });
    await bed.networks.detach('vm-b');
    await bed.networks.detach('vm-a');
    expect(await bed.traces()).toBe('');
  });

  it('a conflist of the operator takes the place of the bridge', async () => {
    const conflist = join(bed.path, 'own.conflist');
    const ipam = { type: 'host-local', dataDir: join(bed.path, 'own-addresses'), subnet: '10.9.8.0/24' };
    const plugins = [{ type: 'ptp', ipMasq: true, ipam: { ...ipam, routes: [{ dst: '0.0.0.0/0' }] } }];
    await writeFile(conflist, JSON.stringify({ cniVersion: '1.0.0', name: 'own', plugins }));
    await bed.networks.open({ conflist });
    const guest = await bed.guest('vm-a');
    const attachment = await bed.networks.connect('vm-a', { id: 'a', network: 'bridge' });
    expect(attachment.network).toMatchObject({ addresses: ['10.9.8.2/24'], gateways: ['10.9.8.1'] });
    await guest.identify(attachment);
    expect(await guest.run(ask(OUTSIDE, 7000))).toBe('outside\n');
    await bed.networks.detach('vm-a');
    await bed.networks.open();
    expect(await bed.traces()).toBe('');
    expect(await bed.onMachine('iptables-save -t nat | grep -c vm-a || true')).toBe('0\n');
  });

  it('a kill between any two steps leaves nothing that the next start does not clear, and what is owned stays', async () => {
    await bed.prepare('vm-kept');
    const { addresses } = await bed.networks.connect('vm-kept', { id: 'kept', network: 'bridge' });
    const kept = await bed.traces();
    const tools = await makeKillingTools(bed.path);
    let steps = 0;
    for (let killed = true; killed; steps++) {
      const { remote, end } = bed.another(await tools.killAfter(steps));
      const work = async () => {
        await remote.prepare('vm-lost', 65_534);
        await remote.connect('vm-lost', { id: 'lost', network: 'bridge', exposePorts: [8008] });
        await remote.detach('vm-lost');
        return false;
      };
      killed = await work().catch((error: Error) => {
        if (error.message === 'the process was killed') return true;
        throw error;
      });
      await end();
      await bed.networks.clean(['vm-kept'], { thorough: false, dryRun: false });
      expect(await bed.traces(), `after a kill at step ${steps}`).toBe(kept);
    }
    expect(steps).toBeGreaterThan(6);
    expect(await bed.networks.addresses('vm-kept')).toEqual(addresses);
    await bed.networks.clean([], { thorough: true, dryRun: false });
    expect(await bed.traces()).toBe('');
  }, 120_000);
});
