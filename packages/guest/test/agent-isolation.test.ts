import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { GuestConnection } from '../src/host/guest-connection.ts';
import { AGENT_TOOLS, BUSYBOX, command, run, script, TestGuest, USER } from './test-guest.ts';

const FILES = [
  ...'/dev /etc /nix /proc /run /tmp'.split(' '),
  ...'/etc/group /etc/hosts /etc/nsswitch.conf /etc/passwd /etc/resolv.conf /etc/ssl'.split(' '),
  ...'/dev/fd /dev/full /dev/null /dev/random /dev/shm /dev/stderr /dev/stdin /dev/stdout'.split(' '),
  ...'/dev/tty /dev/urandom /dev/zero'.split(' '),
];

describeWith(AGENT_TOOLS, 'what a program in a guest sees and may do', () => {
  let guest: TestGuest;
  let connection: GuestConnection;
  let certificates: string;
  beforeAll(async () => {
    guest = await TestGuest.make();
    await guest.addToDisk('file', 'a file');
    await guest.addToDisk('link', `->${BUSYBOX}`);
    await guest.addToDisk('escape', '->/../../../../../etc/passwd');
    certificates = await guest.addToDisk('nss-cacert-1', { 'etc/ssl/certs/ca-bundle.crt': 'certificates' });
    await guest.addSetUserId('root-shell');
    await guest.start();
    connection = await guest.connect();
    await connection.request(guest.prepareRequest());
    await connection.request(script('sleep 1000'));
  });
  afterAll(async () => {
    await connection[Symbol.asyncDispose]();
    await guest[Symbol.asyncDispose]();
  });

  const see = async (text: string) => (await run(connection, command(`exec 2>&1; ${text}`))).output;

  it('is its closure, some devices, and little else', async () => {
    expect(await see('echo /* /etc/* /dev/*; ls /run /tmp')).toBe(`${FILES.join(' ')}\n/run:\n\n/tmp:\n`);
    expect((await see('ls /nix/store')).replaceAll(/^a{32}-/gm, '')).toBe(
      'busybox\nescape\nfile\nlink\nnss-cacert-1\nroot-shell\n',
    );
  });

  it('has paths that are files and links, and links that lead nowhere outside', async () => {
    const store = `/nix/store/${'a'.repeat(32)}`;
    expect(
      await see(`cat ${store}-file; readlink ${store}-link; ls ${store}-link; cat ${store}-escape | head -1`),
    ).toBe(`a file${BUSYBOX}\nbin\nnex:x:12345:12345::/tmp:/bin/false\n`);
    expect(await see('readlink /etc/ssl/certs/ca-certificates.crt; cat /etc/ssl/certs/ca-bundle.crt')).toBe(
      `${certificates}/etc/ssl/certs/ca-bundle.crt\ncertificates`,
    );
  });

  it('can be written in /tmp and /dev/shm only, and not without end', async () => {
    const places = `/ /etc /nix /nix/store ${BUSYBOX} /dev /run /proc /tmp /dev/shm`;
    expect(await see(`for p in ${places}; do (>$p/new) 2>/dev/null && echo $p; done`)).toBe('/tmp\n/dev/shm\n');
    expect(await see('head -c 2000000 /dev/zero >/tmp/large || stat -c %s /tmp/large; rm /tmp/large')).toMatch(
      /^head: .*\n1048576\n$/,
    );
  });

  it('shows no process but its own, and nothing of the machine', async () => {
    expect(await see('stat -c %u /proc/[0-9]* 2>/dev/null | sort -u')).toBe('12345\n');
    expect(await see('kill -9 1; kill -9 2')).toMatch(/(not permitted|No such process)/);
    expect(await see('cd /proc; cat kcore kallsyms cmdline sysrq-trigger 2>/dev/null | wc -c')).toBe('0\n');
    expect(await see('echo 1 >/proc/sys/kernel/panic')).toContain('Read-only file system');
  });

  it('has no right, no group, no descriptor, and cannot get any', async () => {
    const rights = await see('grep -E "^(Cap|NoNewPrivs|Groups|Uid|Gid)" /proc/self/status');
    expect(rights.split('\n').map((line) => line.trim())).toEqual([
      `Uid:${`\t${USER}`.repeat(4)}`,
      `Gid:${`\t${USER}`.repeat(4)}`,
      'Groups:',
      ...['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'].map((name) => `Cap${name}:\t0000000000000000`),
      'NoNewPrivs:\t1',
      '',
    ]);
    expect(await see(`/nix/store/${'a'.repeat(32)}-root-shell/busybox id -u`)).toBe('12345\n');
    expect(await see('mount -t tmpfs tmpfs /tmp; mknod /tmp/sda b 8 0; chroot / true; hostname x')).toMatch(
      /(permission denied|not permitted|are you root)[^]*not permitted[^]*not permitted[^]*not permitted/i,
    );
    expect(await see('exec ls /proc/self/fd')).toBe('0\n1\n2\n3\n');
    expect(await see('ulimit -c; ulimit -r; umask; cat /proc/self/oom_score_adj; pwd')).toBe('0\n0\n0022\n500\n/\n');
  });
});
