import { describe, expect, it } from 'vitest';
import { type Capacity, type Tenant, whyNoRoom } from './bid-terms.ts';

const MIB = 2 ** 20;
const capacity: Capacity = { memory: 1024 * MIB, cpus: 2, cpuOvercommit: 2 };
const tenant = (reservation: Tenant['reservation']): Tenant => ({ namespace: 'default', name: 'x', reservation });

describe('whyNoRoom()', () => {
  it.each([
    ['what asks for nothing', {}, [tenant({ memory: 1024 * MIB, cpus: 2 })]],
    ['what just fits', { memory: 512 * MIB, cpus: 2 }, [tenant({ memory: 512 * MIB, cpus: 2 })]],
    ['what fits beside those that ask for nothing', { memory: 1024 * MIB }, [tenant({}), tenant({})]],
  ])('has nothing against %s', (_, needs, tenants) => {
    expect(whyNoRoom(needs, { capacity, tenants, namespace: 'default' })).toBeUndefined();
  });

  it('gives each port of the machine to one workload, and tells its name to those of its namespace', () => {
    const tenants = [tenant({ ports: [80, 8080] }), { ...tenant({ ports: [81] }), namespace: 'other' }];
    const why = (ports: number[]) => whyNoRoom({ ports }, { capacity, tenants, namespace: 'default' });
    expect(why([443, 82])).toBeUndefined();
    expect(why([443, 8080])).toBe('has no port 8080 left: it is taken by workload "x"');
    expect(why([81])).toBe('has no port 81 left: it is taken by a workload of another namespace');
  });

  it.each([
    [{ memory: 513 * MIB }, [tenant({ memory: 512 * MIB })], 'has 512 MiB of memory left for workloads, not 513 MiB'],
    [{ memory: 1025 * MIB }, [], 'has 1024 MiB of memory left for workloads, not 1025 MiB'],
    [{ memory: MIB }, [tenant({ memory: 2048 * MIB })], 'has 0 MiB of memory left for workloads, not 1 MiB'],
    [{ cpus: 3 }, [], 'has 2 processors left for workloads, not 3'],
    [{ cpus: 1 }, [tenant({ cpus: 2 }), tenant({ cpus: 1.5 })], 'has 0.5 processors left for workloads, not 1'],
  ])('says what is left when %j is asked for', (needs, tenants, why) => {
    expect(whyNoRoom(needs, { capacity, tenants, namespace: 'default' })).toBe(why);
  });
});
