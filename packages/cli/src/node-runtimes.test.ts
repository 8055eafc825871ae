import { describe, expect, it } from 'vitest';
import { kindsOf } from './node-runtimes.ts';

describe('the kinds of sandbox that a node has', () => {
  const IMAGE = { guestImage: '/g' };
  it.each([
    [{}, { sandbox: 'oci', essential: ['oci'], wanted: ['oci'] }],
    [IMAGE, { sandbox: 'microvm', essential: ['microvm'], wanted: ['microvm', 'oci'] }],
    [
      { ...IMAGE, sandbox: 'oci' },
      { sandbox: 'oci', essential: ['oci', 'microvm'], wanted: ['oci', 'microvm'] },
    ],
    [
      { ...IMAGE, sandbox: 'microvm' },
      { sandbox: 'microvm', essential: ['microvm'], wanted: ['microvm', 'oci'] },
    ],
    [
      { ...IMAGE, sandboxes: ['oci'] },
      { sandbox: 'oci', essential: ['oci'], wanted: ['oci'] },
    ],
    [
      { ...IMAGE, sandboxes: ['microvm'] },
      { sandbox: 'microvm', essential: ['microvm'], wanted: ['microvm'] },
    ],
    [
      { ...IMAGE, sandboxes: ['oci', 'microvm'], sandbox: 'oci' },
      { sandbox: 'oci', essential: ['oci', 'microvm'], wanted: ['oci', 'microvm'] },
    ],
  ] as const)('of %j', (options, kinds) => {
    const { sandbox, essential, wanted } = kindsOf(options as Parameters<typeof kindsOf>[0]);
    expect({ sandbox, essential: [...essential], wanted: [...wanted] }).toEqual(kinds);
  });

  it.each([
    [{ sandbox: 'microvm' }, 'Cannot run virtual machines without a guest image'],
    [{ sandboxes: ['microvm'] }, 'Cannot run virtual machines without a guest image'],
    [{ sandbox: 'oci', sandboxes: ['microvm'], ...IMAGE }, 'Cannot run workloads in oci by default'],
  ] as const)('refuses %j', (options, message) => {
    expect(() => kindsOf(options as Parameters<typeof kindsOf>[0])).toThrow(message);
  });
});
