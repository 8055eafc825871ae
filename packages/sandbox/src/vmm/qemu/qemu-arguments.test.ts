import { describe, expect, it } from 'vitest';
import type { VmSpec } from '../vmm.ts';
import { qemuArguments, type QemuSettings } from './qemu-arguments.ts';

const TCG: QemuSettings = { accelerator: 'tcg', tscKhz: 2_500_000, from: 'boot' };
const KVM: QemuSettings = { accelerator: 'kvm', tscKhz: undefined, from: 'boot' };

function spec(change: Partial<VmSpec> = {}, system = 'x86_64-linux'): VmSpec {
  const file = (name: string) => ({ file: name, size: 1, sha256: '00' });
  const manifest = {
    version: 1 as const,
    kind: 'minimal' as const,
    system,
    agent: '1',
    protocol: [1],
    commandLine: 'quiet',
    storePaths: [],
    kernel: file('vmlinux'),
    initrd: file('initrd'),
    root: file('root.erofs'),
  };
  const image = { folder: '/images/one', manifest };
  const shape = { image, vcpus: 2, memory: 256 << 20, slots: 2, network: false };
  return { ...shape, id: 'vm-1', folder: '/vms/vm-1', user: 70_000, cgroupEntries: [], ...change };
}

/** The values of an option, in order. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (args[index - 1] === option ? [arg] : []));
}

describe('qemuArguments()', () => {
  it('tells a guest under TCG how fast its time stamp counter is, and none under KVM', () => {
    const [tcg] = values(qemuArguments(spec(), TCG), '-append');
    expect(tcg?.split(' ')).toEqual(
      expect.arrayContaining(['quiet', 'console=ttyS0', 'tsc_early_khz=2500000', 'nex.channel=virtio']),
    );
    const [kvm] = values(qemuArguments(spec(), KVM), '-append');
    expect(kvm).not.toMatch(/tsc|mitigations/);
    expect(values(qemuArguments(spec(), KVM), '-machine')[0]).toMatch(/^microvm,accel=kvm,/);
    expect(values(qemuArguments(spec(), KVM), '-cpu')).toEqual(['host']);
  });

  it('names nothing by a path of this machine: sockets have room for 107 bytes, and folders may be closed to its user', () => {
    const args = qemuArguments(
      spec({ network: true, tap: { namespace: 'n', name: 'tap0', mac: '02:00:00:00:00:01' } }),
      TCG,
    );
    expect(args.filter((arg) => /(^|[=:])\//.test(arg))).toEqual([]);
  });

  it('has the image as the first disk, and then the slots: one that can be read, others that can be written to', () => {
    const args = qemuArguments(spec({ slots: 3 }), TCG);
    const disks = values(args, '-device').filter((device) => device.startsWith('virtio-blk'));
    expect(disks.map((disk) => /drive=(\w+)/.exec(disk)?.[1])).toEqual(['root', 'slot0', 'slot1', 'slot2']);
    const nodes = values(args, '-blockdev').filter((node) => /node-name=slot/.test(node));
    expect(nodes.map((node) => /read-only=(\w+)/.exec(node)?.[1])).toEqual(['on', 'off', 'off']);
  });

  it('starts nothing and lets nobody start anything', () => {
    const args = qemuArguments(spec(), TCG);
    expect(values(args, '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
    expect(args).toEqual(expect.arrayContaining(['-nodefaults', '-no-user-config', '-S']));
    expect(args.join(' ')).not.toContain('script=/');
  });

  it('has its memory in a file, that of a template only where QEMU cannot write to it', () => {
    const backend = (from: QemuSettings['from']) => values(qemuArguments(spec(), { ...TCG, from }), '-object')[0];
    expect(backend('boot')).toBe('memory-backend-file,id=memory,size=268435456,mem-path=memory/ram,share=on');
    expect(backend('copy')).toBe(backend('boot'));
    expect(backend('share')).toMatch(/mem-path=template\/ram,share=off,readonly=on,rom=off$/);
    expect(values(qemuArguments(spec(), { ...TCG, from: 'copy' }), '-incoming')).toEqual(['defer']);
    expect(values(qemuArguments(spec(), TCG), '-incoming')).toEqual([]);
  });

  it.each([
    ['memory that is no whole number of MiB', spec({ memory: 1000 }), 'no multiple of 1 MiB'],
    ['an image of another machine', spec({}, 'aarch64-linux'), 'aarch64-linux'],
    [
      'a tap device without an interface',
      spec({ tap: { namespace: 'n', name: 't', mac: 'm' } }),
      'no network interface',
    ],
  ])('refuses %s', (_what, wrong, message) => {
    expect(() => qemuArguments(wrong, TCG)).toThrow(
      expect.objectContaining({ code: 'SANDBOX_SPEC_INVALID', message: expect.stringContaining(message) }),
    );
  });
});
