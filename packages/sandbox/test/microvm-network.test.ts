import { describeWith, GUEST_TOOLS, guestImage, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { greeter, greetings, NETWORK_TOOLS, openNetworkBed, OUTSIDE, TRACES } from './network-bed.ts';
import { ask } from './vm-network-bed.ts';

const GATEWAY = '10.217.64.1';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

describeWith([...NETWORK_TOOLS, ...GUEST_TOOLS], 'network bridge of a microvm sandbox', () => {
  let bed: Awaited<ReturnType<typeof openNetworkBed>>;

  beforeAll(async () => {
    bed = await openNetworkBed({ guestImage: await guestImage() });
    await bed.outside.listen('0.0.0.0', 7000, 'outside');
    await bed.machine.listen('0.0.0.0', 7002, 'everywhere');
    await bed.machine.gateway([4222]);
    await bed.machine.listen(GATEWAY, 4222, 'relay');
  });
  afterAll(() => bed?.[Symbol.asyncDispose]());

  it('a program reaches the relay and the world, is reached at its exposed port, and leaves nothing', async () => {
    const script = `
      ${greetings([GATEWAY, 4222], [OUTSIDE, 7000], [GATEWAY, 7002])}
      grep -c 10.255.255.1 /etc/resolv.conf
      exec ${greeter(8001, 'exposed')}`;
    const spec = bed.spec(script, { exposePorts: [8001] });
    const [address = ''] = await bed.machine.start(spec);
    expect(address).toMatch(/^10\.217\./);
    await waitFor('the port', async () => (await bed.onMachine(ask('127.0.0.1', 8001))) === 'exposed\n', {
      timeout: 60_000,
    });
    expect(await bed.onMachine(ask(address, 8001))).toBe('exposed\n');
    expect(await bed.machine.output(spec.id)).toContain(
      `${GATEWAY} 4222 relay\n${OUTSIDE} 7000 outside\n${GATEWAY} 7002 -\n`,
    );
    const { network } = await bed.machine.usage(spec.id);
    expect(network?.received).toBeGreaterThan(200);
    await bed.machine.remove(spec.id);
    await waitFor('its traces to go', async () => !(await bed.onMachine(TRACES)).includes(address));
  });

  it('a program with network "none" has no way out, and its machine no link', async () => {
    const spec = bed.spec(greetings([GATEWAY, 4222], [OUTSIDE, 7000]), { network: 'none' });
    expect(await bed.machine.run(spec)).toBe(`${GATEWAY} 4222 -\n${OUTSIDE} 7000 -\n`);
  });
});
