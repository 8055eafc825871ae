import { describe, expect, it } from 'vitest';
import { deploymentPinName } from './deployment-pins.ts';

describe('deploymentPinName()', () => {
  it.each([
    ['system', 'echo', 'deployment.system.echo'],
    ['a.b', 'my app_2', 'deployment.a_2eb.my_20app_5f2'],
    ['prod', 'größe', 'deployment.prod.gr_c3_b6_c3_9fe'],
  ])('of %s and %s is made of characters that a pin may have', (namespace, name, pin) => {
    expect(deploymentPinName({ namespace, name })).toBe(pin);
    expect(pin).toMatch(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/);
  });

  it('is never too long', () => {
    const [one, other] = ['a', 'b'].map((end) => deploymentPinName({ namespace: 'prod', name: 'x'.repeat(300) + end }));
    expect(one).toMatch(/^deployment\.[0-9a-f]{64}$/);
    expect(other).not.toBe(one);
  });

  it('is another one for another deployment', () => {
    const names = [
      { namespace: 'a', name: 'b.c' },
      { namespace: 'a.b', name: 'c' },
      { namespace: 'a', name: 'b_2ec' },
    ].map(deploymentPinName);
    expect(new Set(names).size).toBe(3);
  });
});
