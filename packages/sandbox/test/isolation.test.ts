import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, BUSYBOX_PATH, output, printed, testBed, TOOLS, usersOf } from './bed.ts';

const b = `${BUSYBOX} `;

describeWith(TOOLS, 'isolation of an oci sandbox', () => {
  it('shows the closure and nothing else', async () => {
    await using bed = await testBed();
    const other = '/nix/store/11111111111111111111111111111111-file.txt';
    const link = '/nix/store/22222222222222222222222222222222-link';
    await writeFile(join(bed.path, 'store', 'file'), 'content');
    await symlink(BUSYBOX_PATH, join(bed.path, 'store', 'link'));
    const { stdout, exit } = await bed.run(
      `${b}ls /nix/store; ${b}cat ${other}; echo; ${b}readlink ${link}; ${b}ls -A / /etc; ${link}/bin/busybox echo via link`,
      {
        closure: [
          { storePath: BUSYBOX_PATH, source: bed.source },
          { storePath: other, source: join(bed.path, 'store', 'file') },
          { storePath: link, source: join(bed.path, 'store', 'link') },
        ],
      },
    );
    expect(stdout.split('\n')).toEqual([
      ...[BUSYBOX_PATH, other, link].map((path) => path.slice('/nix/store/'.length)),
      'content',
      BUSYBOX_PATH,
      '/:',
      'dev',
      'etc',
      'nix',
      'proc',
      'tmp',
      '',
      '/etc:',
      'group',
      'hosts',
      'nsswitch.conf',
      'passwd',
      'resolv.conf',
      'via link',
      '',
    ]);
    expect(exit).toEqual({ code: 0, outOfMemory: false });
  });

  it('mounts store paths read-only, and nothing of this machine besides', async () => {
    await using bed = await testBed();
    const { stdout } = await bed.run(`${b}cat /proc/self/mounts`);
    const mounts = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' '));
    const made = ['/proc', '/dev', '/nix/store', '/tmp'];
    const bound = mounts.filter(
      ([, target = '']) => !made.includes(target) && !target.startsWith('/proc/') && !target.startsWith('/dev/'),
    );
    expect(new Set(bound.map(([, target]) => target))).toEqual(new Set(['/', BUSYBOX_PATH]));
    for (const [, , , options = ''] of bound) expect(options.split(',')).toContain('ro');
    const devices = mounts.filter(([, , type]) => type === 'devtmpfs').map(([, target]) => target);
    expect(devices).toEqual(expect.arrayContaining(['/dev/null', '/dev/urandom']));
  });

  it('gives no capability, no new privileges, a seccomp filter and an unprivileged user', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}cat /proc/self/status; echo ready; ${b}sleep 100`);
    await printed(sandbox, 'ready');
    const { stdout } = await output(sandbox);
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
      expect(stdout).toMatch(new RegExp(`^Cap${set}:\t0{16}$`, 'm'));
    expect(stdout).toMatch(/^NoNewPrivs:\t1$/m);
    expect(stdout).toMatch(/^Seccomp:\t2$/m);
    expect(stdout).toMatch(/^Uid:\t1000\t1000\t1000\t1000$/m);
    expect(stdout).toMatch(/^SigIgn:\t0{16}$/m);
    const users = usersOf(sandbox.id);
    expect(users.length).toBeGreaterThan(0);
    for (const user of users) expect(user).toBeGreaterThan(65_536);
  });

  it('passes on the environment exactly, and no file but 0, 1 and 2', async () => {
    await using bed = await testBed();
    process.env['NEX_TEST_LEAK'] = 'leaked';
    try {
      const environment = { A: 'b=c d', EMPTY: '', LINES: 'x\ny' };
      const { stdout } = await bed.run(`${b}tr '\\0' '|' </proc/1/environ; echo; ${b}ls /proc/1/fd; :`, {
        environment,
      });
      expect(stdout).toBe('HOME=/tmp|A=b=c d|EMPTY=|LINES=x\ny|\n0\n1\n2\n');
    } finally {
      delete process.env['NEX_TEST_LEAK'];
    }
  });

  it('lets the standard streams be opened by name', async () => {
    await using bed = await testBed();
    const { stdout, stderr } = await bed.run('echo one; echo two >/dev/stdout; echo three >/dev/stderr; echo four');
    expect(stdout).toBe('one\ntwo\nfour\n');
    expect(stderr).toBe('three\n');
  });

  it('has a loopback interface alone with network "none"', async () => {
    await using bed = await testBed();
    const { stdout } = await bed.run(`${b}tail -n +3 /proc/net/dev`);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.trim().split(':')[0]),
    ).toEqual(['lo']);
  });

  it.each(['host', 'none'] as const)(
    'reaches what listens on this machine with network "host" alone: %s',
    async (network) => {
      await using bed = await testBed();
      const server = createServer((socket) => socket.end('hello\n')).listen(0, '127.0.0.1');
      await once(server, 'listening');
      try {
        const { port } = server.address() as { port: number };
        const { stdout } = await bed.run(`${b}nc -w 5 127.0.0.1 ${port} 2>/dev/null; ${b}cat /etc/resolv.conf`, {
          network,
        });
        const resolvConf = network === 'host' ? await readFile('/etc/resolv.conf', 'utf8') : '';
        expect(stdout).toBe(network === 'host' ? `hello\n${resolvConf}` : '');
      } finally {
        server.close();
      }
    },
  );

  it('keeps two sandboxes apart by user and by process', async () => {
    await using bed = await testBed();
    const script = `${b}touch /tmp/mine; echo ready; ${b}sleep 100`;
    const [one, two] = await Promise.all([bed.start(script), bed.start(script)]);
    await Promise.all([printed(one, 'ready'), printed(two, 'ready')]);
    expect(new Set([...usersOf(one.id), ...usersOf(two.id)]).size).toBe(2);
  });

  it('works in a state folder that only root may enter', async () => {
    await using bed = await testBed();
    const hidden = join(bed.path, 'hidden');
    await mkdir(hidden, { mode: 0o700 });
    await using inner = await testBed({ stateDir: join(hidden, 'state') });
    expect((await inner.run('echo ok')).stdout).toBe('ok\n');
  });
});
