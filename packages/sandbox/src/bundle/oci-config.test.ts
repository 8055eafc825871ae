import { describe, expect, it } from 'vitest';
import { ociConfig, type OciConfigInput } from './oci-config.ts';
import { seccompProfile } from './seccomp.ts';
import { ALLOWED_SYSCALLS } from './seccomp-syscalls.ts';

const STORE_PATH = '/nix/store/00000000000000000000000000000000-x';
const INPUT: OciConfigInput = {
  spec: {
    id: 'w1',
    closure: [{ storePath: STORE_PATH, source: '/s' }],
    program: `${STORE_PATH}/bin/x`,
    argv: ['y'],
    environment: { A: 'b' },
    resources: {},
    network: 'none',
  },
  mounts: [{ storePath: STORE_PATH, source: '/s' }],
  user: { uid: 1000, gid: 1000 },
  networkNamespace: undefined,
  hostIds: { root: 5, user: 6 },
  rlimits: [{ name: 'CORE', value: 0 }],
  oomScoreAdj: 500,
  arch: 'x64',
};
const types = (input: OciConfigInput) => ociConfig(input).linux.namespaces.map(({ type }) => type);

describe('ociConfig()', () => {
  it('isolates everything; the network unless it is the machine’s', () => {
    expect(types(INPUT)).toEqual(['pid', 'mount', 'ipc', 'uts', 'cgroup', 'user', 'network']);
    expect(types({ ...INPUT, spec: { ...INPUT.spec, network: 'host' } })).not.toContain('network');
  });

  it('maps no id but two where there are user namespaces, and none where there are none', () => {
    expect(ociConfig(INPUT).linux).toMatchObject({
      uidMappings: [
        { containerID: 0, hostID: 5, size: 1 },
        { containerID: 1000, hostID: 6, size: 1 },
      ],
    });
    const without = { ...INPUT, hostIds: undefined };
    expect(types(without)).not.toContain('user');
    expect(ociConfig(without).linux).not.toHaveProperty('uidMappings');
  });

  it('lets the environment override HOME', () => {
    expect(ociConfig(INPUT).process.env).toEqual(['HOME=/tmp', 'A=b']);
    const spec = { ...INPUT.spec, environment: { HOME: '/x' } };
    expect(ociConfig({ ...INPUT, spec }).process.env).toEqual(['HOME=/x']);
  });
});

describe('seccompProfile()', () => {
  it('allows no call that changes the machine, its mounts or other processes', () => {
    const forbidden = [
      'mount',
      'umount2',
      'unshare',
      'setns',
      'ptrace',
      'bpf',
      'init_module',
      'reboot',
      'clone',
      'socket',
    ];
    expect(ALLOWED_SYSCALLS.filter((name) => forbidden.includes(name))).toEqual([]);
    expect(new Set(ALLOWED_SYSCALLS).size).toBe(ALLOWED_SYSCALLS.length);
  });

  it('filters for the machine’s own instruction set alone', () => {
    expect(seccompProfile('x64').architectures).toEqual(['SCMP_ARCH_X86_64']);
    expect(seccompProfile('arm64').architectures).toEqual(['SCMP_ARCH_AARCH64']);
  });
});
