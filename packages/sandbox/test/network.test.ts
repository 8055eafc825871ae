import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import {
  greeter,
  greetings,
  MACHINE,
  makeKillingTools,
  METADATA,
  NETWORK_TOOLS,
  openNetworkBed,
  OUTSIDE,
  TRACES,
} from './network-bed.ts';

const GATEWAY = '10.217.64.1';

describeWith(NETWORK_TOOLS, 'network bridge', () => {
  let bed: Awaited<ReturnType<typeof openNetworkBed>>;

  beforeAll(async () => {
    bed = await openNetworkBed();
    await bed.outside.listen('0.0.0.0', 7000, 'outside');
    await bed.machine.listen('127.0.0.1', 7001, 'loopback');
    await bed.machine.listen('0.0.0.0', 7002, 'everywhere');
  });
  afterEach(() => bed.machine.removeAll());
  afterAll(() => bed?.[Symbol.asyncDispose]());

  it("security: reaching the host's loopback from bridge, or any service of the host but the relay's, is refused", async () => {
    expect(await bed.machine.gateway([4222])).toBe(GATEWAY);
    await bed.machine.listen(GATEWAY, 4222, 'relay');
    await bed.machine.listen(GATEWAY, 7003, 'gateway');
    const script = greetings(
      [GATEWAY, 4222],
      [GATEWAY, 7001],
      [GATEWAY, 7002],
      [GATEWAY, 7003],
      [MACHINE, 7001],
      [MACHINE, 7002],
      ['127.0.0.1', 7001],
      ['127.0.0.1', 7002],
      [METADATA, 7000],
      [OUTSIDE, 7000],
    );
    // portmap has route_localnet turned on for the bridge.
    expect(await bed.machine.run(bed.spec(script, { exposePorts: [8001] }))).toBe(
      [
        `${GATEWAY} 4222 relay`,
        `${GATEWAY} 7001 -`,
        `${GATEWAY} 7002 -`,
        `${GATEWAY} 7003 -`,
        `${MACHINE} 7001 -`,
        `${MACHINE} 7002 -`,
        '127.0.0.1 7001 -',
        '127.0.0.1 7002 -',
        `${METADATA} 7000 -`,
        `${OUTSIDE} 7000 outside`,
        '',
      ].join('\n'),
    );
  });

  it('an exposed port is reached from outside, from the machine and from sandboxes, and no other port is', async () => {
    const spec = bed.spec(`${greeter(8002, 'exposed')} & ${greeter(9002, 'hidden')}`, { exposePorts: [8002] });
    const [address = ''] = await bed.machine.start(spec);
    await waitFor('both ports', async () => {
      const said = await bed
        .onMachine(`busybox nc -w 1 ${address} 8002 </dev/null; busybox nc -w 1 ${address} 9002 </dev/null`)
        .catch(() => '');
      return said === 'exposed\nhidden\n';
    });
    const ask = (host: string, port: number) => `busybox nc -w 2 ${host} ${port} </dev/null 2>&1 || true`;
    expect(await bed.onMachine(`${ask(MACHINE, 8002)}; ${ask('127.0.0.1', 8002)}`)).toBe('exposed\nexposed\n');
    await bed.onOutside(`ip route replace 10.217.64.0/20 via ${MACHINE}`);
    expect(await bed.onOutside(ask(MACHINE, 8002))).toBe('exposed\n');
    expect(await bed.onOutside(ask(address, 9002))).not.toContain('hidden');
    const script = greetings([GATEWAY, 8002], [MACHINE, 8002], [address, 9002], [GATEWAY, 9002]);
    expect(await bed.machine.run(bed.spec(script))).toBe(
      `${GATEWAY} 8002 exposed\n${MACHINE} 8002 exposed\n${address} 9002 -\n${GATEWAY} 9002 -\n`,
    );
  });

  it('tells its address and what went over its network', async () => {
    const spec = bed.spec(`${greetings([OUTSIDE, 7000])}; /nix/store/*/bin/busybox sleep 60`);
    expect(await bed.machine.start(spec)).toEqual([expect.stringMatching(/^10\.217\.64\.\d+$/)]);
    await waitFor('its line', async () => (await bed.machine.output(spec.id)) === `${OUTSIDE} 7000 outside\n`);
    const { network } = await bed.machine.usage(spec.id);
    expect(network?.received).toBeGreaterThan(100);
    expect(network?.sent).toBeGreaterThan(100);
    await bed.machine.open();
    expect(await bed.onMachine('iptables-save -t nat')).toContain(spec.id);
  });

  it('a port that another sandbox or a process has is refused, and says whose it is', async () => {
    const spec = bed.spec('/nix/store/*/bin/busybox sleep 60', { exposePorts: [8003] });
    await bed.machine.start(spec);
    await expect(bed.machine.start(bed.spec('true', { exposePorts: [8003] }))).rejects.toMatchObject({
      code: 'SANDBOX_PORT_TAKEN',
      message: expect.stringContaining(`the sandbox "${spec.id}"`),
    });
    await expect(bed.machine.start(bed.spec('true', { exposePorts: [8004, 7001] }))).rejects.toMatchObject({
      code: 'SANDBOX_PORT_TAKEN',
      message: expect.stringMatching(/"[^"]*node[^"]*" \(process \d+\)|"MainThread" \(process \d+\)/i),
    });
    // The one that it had got before it was refused the other is free again.
    await bed.machine.run(bed.spec('true', { exposePorts: [8004] }));
  });

  it('has the name servers of the machine, unless they are reached over its loopback', async () => {
    await writeFile(join(bed.path, 'resolv.conf'), 'search example\nnameserver 127.0.0.53\n');
    await bed.onMachine(
      `mount --bind ${join(bed.path, 'resolv.conf')} /etc/resolv.conf
       mkdir -p /run/systemd/resolve; echo 'nameserver 192.0.2.53' >/run/systemd/resolve/resolv.conf`,
    );
    const show = bed.spec(
      'while read -r line; do echo "$line"; done </etc/resolv.conf; [ ! -e /proc/sys/net/ipv6/conf/eth0 ] || read -r off </proc/sys/net/ipv6/conf/eth0/disable_ipv6; echo ${off:-1}',
    );
    expect(await bed.machine.run(show)).toBe('nameserver 192.0.2.53\nsearch example\n1\n');
    await bed.onMachine('rm -r /run/systemd');
    expect(await bed.machine.run(show)).toBe('1\n');
    await bed.onMachine('umount /etc/resolv.conf');
  });

  it('the last sandbox takes the bridge and its rules along', async () => {
    await bed.machine.run(bed.spec('true', { exposePorts: [8005] }));
    expect(await bed.onMachine(TRACES)).toBe('');
  });

  it('clean removes what no sandbox has, and nothing that is not ours', async () => {
    const alive = bed.spec('/nix/store/*/bin/busybox sleep 60', { exposePorts: [8006] });
    const lost = bed.spec('/nix/store/*/bin/busybox sleep 60', { exposePorts: [8007] });
    await bed.machine.start(alive);
    await bed.machine.start(lost);
    await bed.onMachine(
      `ip link add br-other type bridge; ip link set br-other alias other; ip netns add nex-other
       iptables -A INPUT -i br-other -m comment --comment 'nex-other' -j ACCEPT
       iptables -t nat -A POSTROUTING -m comment --comment 'name: "nex0" id: "nex-other"' -j RETURN
       mkdir -p /run/nex-nix/addresses/nex0; echo other >/run/nex-nix/addresses/nex0/10.217.64.99`,
    );
    // Everything that would lead to it: as if somebody had removed the wrong folders.
    await bed.onMachine(
      `rm -f /run/nex-nix/attachments/*${lost.id}.json
       while read -r pid; do kill -9 $pid; done <$(ls -d /sys/fs/cgroup/*/nex-nix/${lost.id}/cgroup.procs /sys/fs/cgroup/nex-nix/${lost.id}/cgroup.procs 2>/dev/null | head -n 1)`,
    );
    await waitFor('its end', async () => (await bed.onMachine(`ls ${bed.stateDir}/${lost.id}`)).includes('exit'));
    await rm(join(bed.stateDir, lost.id), { recursive: true });
    await bed.machine.open();
    await bed.onMachine(
      `ip netns add nex-$(ls /run/netns | sed -n 's/^nex-\\([0-9a-f]*\\)-t.*/\\1/p' | head -n 1)-half`,
    );
    const before = await bed.onMachine(TRACES);
    // Cgroups are those of all tests on this machine.
    const clean = async (dryRun: boolean) => (await bed.machine.clean(dryRun)).filter(({ kind }) => kind !== 'cgroup');
    const found = await clean(true);
    expect(found.map(({ kind }) => kind)).toContain('network');
    expect(await bed.onMachine(TRACES)).toBe(before);
    expect(await clean(false)).toEqual(found);
    const left = await bed.onMachine(`${TRACES}\niptables-save`);
    expect(left).not.toContain(lost.id);
    expect(left).not.toContain('-half');
    for (const kept of [alive.id, 'br-other', 'nex-other', '10.217.64.99', 'id: \\"nex-other\\"', 'NEX-IN-nex0']) {
      expect(left).toContain(kept);
    }
    expect(await clean(true)).toEqual([]);
    await bed.onMachine(
      'ip link delete br-other; ip netns delete nex-other; rm /run/nex-nix/addresses/nex0/10.217.64.99; iptables -F INPUT; iptables -t nat -F POSTROUTING',
    );
  });

  it('a conflist of the operator takes the place of the bridge', async () => {
    const conflist = join(bed.path, 'own.conflist');
    const ipam = { type: 'host-local', dataDir: join(bed.path, 'own-addresses'), subnet: '10.9.8.0/24' };
    const plugins = [{ type: 'ptp', ipMasq: true, ipam: { ...ipam, routes: [{ dst: '0.0.0.0/0' }] } }];
    await writeFile(conflist, JSON.stringify({ cniVersion: '1.0.0', name: 'own', plugins }));
    await bed.machine.open({ network: { conflist } });
    expect(await bed.machine.run(bed.spec(greetings([OUTSIDE, 7000])))).toBe(`${OUTSIDE} 7000 outside\n`);
    await writeFile(conflist, JSON.stringify({ cniVersion: '9.0.0', name: 'own', plugins }));
    await expect(bed.machine.start(bed.spec('true'))).rejects.toMatchObject({
      code: 'SANDBOX_NETWORK_FAILED',
      message: expect.stringMatching(/plugin "ptp": .*(9\.0\.0|version)/),
    });
    await bed.machine.open();
    expect(await bed.onMachine(TRACES)).toBe('');
  });

  it('a machine without the plugins is told what to install, and has the other networks', async () => {
    await bed.machine.open({ network: { pluginFolders: ['/nowhere'] } });
    expect(await bed.machine.check()).toContainEqual(
      expect.objectContaining({
        name: 'bridge network',
        met: false,
        essential: false,
        hint: expect.stringContaining('containernetworking-plugins'),
      }),
    );
    await expect(bed.machine.start(bed.spec('true'))).rejects.toMatchObject({ code: 'SANDBOX_NETWORK_FAILED' });
    expect(await bed.machine.run(bed.spec('echo fine', { network: 'none' }))).toBe('fine\n');
    await bed.machine.open();
    expect(await bed.onMachine(TRACES)).toBe('');
  });

  it('a kill between any two steps of connecting leaves nothing that the next start does not clear', async () => {
    const tools = await makeKillingTools(bed.path);
    let steps = 0;
    for (let killed = true; killed; steps++) {
      const environment = await tools.killAfter(steps);
      const { remote, end } = bed.another(environment);
      const spec = bed.spec('true', { exposePorts: [8008] });
      killed = await remote
        .open()
        .then(() => remote.create(spec))
        .then(
          () => false,
          (error: Error) => {
            if (error.message === 'the process was killed') return true;
            throw error;
          },
        );
      await end();
      await rm(join(bed.stateDir, spec.id), { recursive: true, force: true });
      await bed.machine.open();
      expect(await bed.onMachine(TRACES), `after a kill at step ${steps}`).toBe('');
    }
    expect(steps).toBeGreaterThan(6);
  }, 60_000);
});
