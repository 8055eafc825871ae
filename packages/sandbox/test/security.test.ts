import { chmod, copyFile, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { SandboxRecord } from '@nex-nix/sandbox';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, BUSYBOX_PATH, printed, STARTER, testBed, TOOLS } from './bed.ts';
import { perlIn } from './native.ts';

const b = `${BUSYBOX} `;
const OTHER_PATH = '/nix/store/44444444444444444444444444444444-other';

/** Prints what of the commands, one a line, succeeds. */
const attempts = (...commands: string[]) =>
  commands.map((command) => `(${command}) >/dev/null 2>&1 && echo ${JSON.stringify(command)}`).join('\n');

describeWith(TOOLS, 'a hostile program in an oci sandbox', () => {
  it('reads no file of another sandbox, nor of this machine', async () => {
    await using bed = await testBed();
    const secret = { path: '/run/secrets', files: { key: 'hidden' } };
    const other = await bed.start(`echo hidden >/tmp/key; echo ready; ${b}sleep 100`, { privateFolder: secret });
    await printed(other, 'ready');
    const { stdout } = await bed.run(
      `${b}find / -xdev -type f ! -path '/proc/*' | ${b}sort
       for up in / /proc/1/root /proc/self/cwd /nix/store/../../.. ${BUSYBOX_PATH}/../../../..; do
         for file in ${bed.stateDir} ${other.id} run/secrets tmp/key root home var usr; do
           [ -e $up/$file ] && echo "sees $up/$file"
         done
       done
       ${b}grep -rl hidden /tmp /run /etc 2>/dev/null; echo end`,
    );
    expect(stdout.trimEnd().split('\n')).toEqual([
      ...['group', 'hosts', 'nsswitch.conf', 'passwd', 'resolv.conf'].map((name) => `/etc/${name}`),
      'end',
    ]);
  });

  it('writes to the store nowhere, nor to anything but its own folder, up to its size', async () => {
    await using bed = await testBed();
    const { stdout } = await bed.run(
      `b=${BUSYBOX}
       ${attempts('$b touch /x', '$b touch /nix/store/x', `$b touch ${BUSYBOX_PATH}/x`, `echo >>${BUSYBOX}`, `$b chmod 777 ${BUSYBOX}`, '$b touch /etc/x', '$b rm /etc/passwd', '$b touch /dev/x', '$b mkdir /proc/sys/x', '$b ln -s / /nix/store/x')}
       $b dd if=/dev/zero of=/tmp/big bs=64k count=64 2>/dev/null; $b stat -c %s /tmp/big`,
      { resources: { tmp: 1 << 20 } },
    );
    expect(stdout).toBe(`${1 << 20}\n`);
  });

  it('neither sees nor signals a process of this machine', async () => {
    await using bed = await testBed();
    const { stdout } = await bed.run(
      `cd /proc; for p in [0-9]*; do echo "pid $p"; done
       ${attempts(`kill -9 ${process.pid}`, `kill -9 -${process.pid}`, `${b}ls /proc/${process.pid}`)}
       kill -9 -1; echo alive`,
    );
    expect(stdout).toBe('pid 1\nalive\n');
  });

  it('has no device of this machine, and makes none', async () => {
    const owner = async () => {
      const { uid, gid, mode } = await stat('/dev/null');
      return { uid, gid, mode };
    };
    const before = await owner();
    await using bed = await testBed();
    const { stdout } = await bed.run(
      `b=${BUSYBOX}
       ${attempts('$b mknod /tmp/n c 1 3', '$b mknod /tmp/d b 8 0', '$b mknod /dev/n c 1 1', '$b chmod 600 /dev/null', '$b head -c1 /dev/kmsg', '$b head -c1 /dev/mem', '$b head -c1 /proc/kmsg')}
       for d in /dev/*; do [ -O $d ] && [ ! -L $d ] && echo "owns $d"; done; $b find /dev -type b; $b cat; echo end`,
    );
    expect(stdout).toBe('end\n');
    expect(await owner()).toEqual(before);
  });

  it('abuses neither /proc/sysrq-trigger nor /proc/sys, and has no /sys', async () => {
    await using bed = await testBed();
    const hidden = 'cmdline kallsyms kcore key-users keys modules sysrq-trigger timer_list interrupts';
    const { stdout } = await bed.run(
      `b=${BUSYBOX}
       ${attempts('[ ! -c /proc/sysrq-trigger ] && echo h >/proc/sysrq-trigger', 'echo x >/proc/sys/kernel/core_pattern', 'echo 1 >/proc/sys/vm/drop_caches', 'echo 1 >/proc/irq/default_smp_affinity', 'echo -1000 >/proc/self/oom_score_adj', 'echo 0 >/proc/self/uid_map', '$b ls /sys')}
       for f in ${hidden}; do [ -e /proc/$f ] && $b head -c 1 /proc/$f; done 2>/dev/null; echo end`,
    );
    expect(stdout).toBe('end\n');
  });

  it('finds no way out through an inherited descriptor, nor through those of a further command', async () => {
    await using bed = await testBed();
    const watch = `while :; do for l in /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe; do
      ${b}readlink $l; done; ${b}ls /proc/[0-9]*/map_files; done >>/tmp/seen 2>/dev/null & echo ready; wait`;
    const spec = bed.spec(watch);
    // As a node would have them whose parent was careless.
    const leaky = `exec 9</ 8</etc/passwd; cd /etc; exec "$@"`;
    const command = [process.execPath, '--conditions=nexsrc', STARTER, bed.stateDir, JSON.stringify(spec)];
    await using starter = startProcess('sh', ['-c', leaky, 'sh', ...command]);
    await waitFor('the sandbox to run', () => starter.stdout().endsWith('\n'), { timeout: 20_000 });
    starter.kill('SIGKILL');
    await starter.exited;
    const sandbox = await bed.runtime.adopt(JSON.parse(starter.stdout()) as SandboxRecord);
    if (sandbox === undefined) throw new Error('not adopted');
    for (let i = 0; i < 5; i++) await sandbox.exec({ program: BUSYBOX, argv: ['ls', '-l', '/proc/self/fd'] });
    const seen = await sandbox.exec({
      program: BUSYBOX,
      argv: ['sh', '-c', `${b}sort -u /tmp/seen | ${b}grep -v '^/proc/'`],
    });
    const harmless =
      /^(pipe:\[\d+\]|\/|\/dev\/null|\/tmp\/seen|.*\/std(out|err)(\.pipe)?|\/nix\/store\/[^ ]*busybox|[\da-f]+-[\da-f]+|)$/;
    expect(seen.output.split('\n').filter((line) => !harmless.test(line))).toEqual([]);
    expect(seen.output).toContain('pipe:[');
  });

  it('cannot dump its memory onto this machine', async () => {
    await using bed = await testBed();
    const { stdout } = await bed.run(
      `(ulimit -c unlimited) 2>/dev/null && echo raised; ulimit -Hc
       cd /tmp; ${b}sh -c 'kill -SEGV $$' 2>/dev/null; echo $?; ${b}ls -A /tmp`,
    );
    expect(stdout).toBe('0\n139\n');
  });

  it('gains nothing by a file of its closure that is set to root', async () => {
    await using bed = await testBed();
    const source = join(bed.path, 'store', 'setuid');
    await mkdir(source);
    await copyFile(join(bed.source, 'bin', 'busybox'), join(source, 'busybox'));
    await chmod(join(source, 'busybox'), 0o6755);
    const { stdout } = await bed.run(
      `${OTHER_PATH}/busybox id -u; ${OTHER_PATH}/busybox id -ru; ${b}grep CapEff /proc/self/status`,
      {
        closure: [
          { storePath: BUSYBOX_PATH, source: bed.source },
          { storePath: OTHER_PATH, source },
        ],
      },
    );
    expect(stdout).toBe(`1000\n1000\nCapEff:\t${'0'.repeat(16)}\n`);
  });

  it('is no program outside of its closure, whatever links and dots lead to it', async () => {
    await using bed = await testBed();
    const source = join(bed.path, 'store', 'links');
    await mkdir(source);
    await symlink('/bin/sh', join(source, 'absolute'));
    await symlink('../../../../../../../../bin/sh', join(source, 'relative'));
    await symlink('/proc/self/exe', join(source, 'exe'));
    await symlink('..', join(source, 'up'));
    const closure = [{ storePath: OTHER_PATH, source }];
    for (const name of ['absolute', 'relative', 'exe', 'up/links/absolute', 'up']) {
      const sandbox = await bed.runtime.create(bed.spec('', { closure, program: `${OTHER_PATH}/${name}` }));
      await expect(sandbox.start(), name).rejects.toMatchObject({
        kind: expect.stringMatching('not-found|failed') as string,
      });
    }
    for (const program of [
      `${OTHER_PATH}/../../../bin/sh`,
      `${OTHER_PATH}/./absolute`,
      '/bin/sh',
      `${OTHER_PATH}x/sh`,
      OTHER_PATH.slice(1),
    ]) {
      const creating = bed.runtime.create(bed.spec('', { closure, program }));
      await expect(creating, program).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    }
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('gets no environment whose names hold "=", a newline or nothing', async () => {
    await using bed = await testBed();
    for (const name of ['A=B', 'A\nB', '', 'A\0B']) {
      const creating = bed.runtime.create(bed.spec('', { environment: { [name]: 'x' } }));
      await expect(creating).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    }
  });

  it('finds the certificates of authorities where its closure has them', async () => {
    await using bed = await testBed();
    const cacert = '/nix/store/55555555555555555555555555555555-nss-cacert-3.98';
    const source = join(bed.path, 'store', 'cacert');
    await mkdir(join(source, 'etc/ssl/certs'), { recursive: true });
    await writeFile(join(source, 'etc/ssl/certs/ca-bundle.crt'), 'authorities\n');
    const { stdout } = await bed.run(`${b}cat /etc/ssl/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt`, {
      closure: [
        { storePath: BUSYBOX_PATH, source: bed.source },
        { storePath: cacert, source },
      ],
    });
    expect(stdout).toBe('authorities\nauthorities\n');
  });
});

describeWith([...TOOLS, 'perl', 'ldd'], 'a hostile program with calls of its own', () => {
  it('reaches no abstract socket of this machine from a network of its own', async () => {
    await using bed = await testBed();
    const name = `nex-test-${process.pid}`;
    const server = createServer((socket) => socket.end()).listen({ path: `\0${name}` });
    await once(server, 'listening');
    try {
      const perl = await perlIn(bed.path);
      const script = `socket(S, 1, 1, 0) or die; print connect(S, pack("S a*", 1, "\\0${name}")) ? "reached" : "refused"`;
      const reach = async (network: 'host' | 'none') =>
        (await bed.run('', { ...perl.spec(script), network })).stdout.trim();
      expect(await reach('none')).toBe('refused');
      // As its documentation says.
      expect(await reach('host')).toBe('reached');
    } finally {
      server.close();
    }
  });
});
