import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { OciRuntime, type Sandbox, type SandboxRecord } from '@nex-nix/sandbox';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, output, printed, processesOf, readOrEmpty, STARTER, testBed, TOOLS, traces } from './bed.ts';

const b = `${BUSYBOX} `;
const IDLE = `echo ready; exec ${b}sleep 100`;

const sh = (sandbox: Sandbox, script: string, more: Partial<Parameters<Sandbox['exec']>[0]> = {}) =>
  sandbox.exec({ program: BUSYBOX, argv: ['sh', '-c', script], ...more });

/** How many processes of a sandbox execute an applet of busybox. */
function countOf(applet: string, id: string): number {
  return processesOf(id).filter((pid) => readOrEmpty(`/proc/${pid}/cmdline`).includes(`busybox\0${applet}\0`)).length;
}

describeWith(TOOLS, 'a further command in an oci sandbox', () => {
  it('has the rights of the program and no others', async () => {
    await using bed = await testBed();
    const script = `${b}grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigIgn|SigBlk)' /proc/self/status
      ${b}cat /proc/self/limits /proc/self/oom_score_adj; ${b}pwd; umask
      for n in cgroup ipc mnt net pid user uts; do ${b}readlink /proc/self/ns/$n; done`;
    const sandbox = await bed.start(`${script}; ${IDLE}`);
    await printed(sandbox, 'ready');
    const [own, command] = [(await output(sandbox)).stdout, (await sh(sandbox, script)).output];
    expect(command).toMatch(/^Seccomp:\t2$/m);
    expect(command).toMatch(/^CapEff:\t0{16}$/m);
    expect(command).toMatch(/^Uid:\t1000\t1000\t1000\t1000$/m);
    expect(`${command}ready\n`).toBe(own);
  });

  it('has standard streams of its own, and no other file', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    const script = `${b}cat; echo out; echo err >/dev/stderr; cd /proc/self/fd; for f in *; do
      [ -e $f ] && [ $f -gt 2 ] && ${b}readlink $f; done; ${b}readlink /proc/self/cwd; exit 3`;
    expect(await sh(sandbox, script)).toEqual({ code: 3, output: 'out\nerr\n/proc/2/fd\n' });
  });

  it('has the environment of the program, with its own on top', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE, { environment: { A: 'program', B: 'x=y\nz' } });
    const { output: text } = await sandbox.exec({
      program: BUSYBOX,
      argv: ['env', '-0'],
      environment: { A: 'command' },
    });
    expect(text.split('\0').sort()).toEqual(['', 'A=command', 'B=x=y\nz', 'HOME=/tmp']);
  });

  it('leaves nothing of an environment on disk', async () => {
    await using bed = await testBed();
    const secret = 'keep-me-to-yourself';
    const sandbox = await bed.start(IDLE, { environment: { SECRET: secret } });
    const running = sh(sandbox, `echo $SECRET$OTHER >/dev/null; ${b}sleep 0.2`, { environment: { OTHER: secret } });
    await waitFor('the command to run', () => processesOf(sandbox.id).length > 3);
    const folder = join(bed.stateDir, sandbox.id);
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
    const texts = files.map((file) => readOrEmpty(join(file.parentPath, file.name)));
    expect(files.map(({ name }) => name)).toContain('config.json');
    expect(texts.filter((text) => text.includes(secret))).toEqual([]);
    await running;
    expect((await readdir(folder)).filter((name) => name.startsWith('exec-'))).toEqual([]);
  });

  it('is bound by the limits of the sandbox', async () => {
    await using bed = await testBed();
    const resources = { memory: 32 << 20, pids: 8 };
    // Reaps what is orphaned: zombies count as processes.
    const sandbox = await bed.start(`while :; do ${b}sleep 0.02; done`, { resources });
    expect((await sh(sandbox, `exec ${b}dd if=/dev/zero of=/dev/null bs=64M count=1`)).code).toBe(137);
    const bomb = await sh(sandbox, `for i in 1 2 3 4 5 6 7 8 9; do ${b}sleep 100 & done; echo all`);
    expect(bomb.output).toContain("can't fork");
    await waitFor('the dead to be buried', async () => ((await sandbox.usage()).pids ?? 0) < 6);
    expect((await sh(sandbox, 'echo still')).output).toBe('still\n');
  });

  it('is killed with everything it started when it takes too long, and the program is not', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    const before = processesOf(sandbox.id);
    const aborting = new AbortController();
    const fork = `(${b}setsid ${b}sleep 100 &); trap '' TERM HUP; ${b}sleep 100`;
    const running = sh(sandbox, fork, { signal: aborting.signal });
    await waitFor('all of it to run', () => countOf('sleep', sandbox.id) === 3);
    aborting.abort(new Error('too long'));
    await expect(running).rejects.toThrow('too long');
    expect(processesOf(sandbox.id)).toEqual(before);
  });

  it('leaves nothing behind when it has ended, even if that holds its output open', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    const before = processesOf(sandbox.id);
    expect(await sh(sandbox, `${b}setsid ${b}sleep 100 & echo done`)).toEqual({ code: 0, output: 'done\n' });
    expect(processesOf(sandbox.id)).toEqual(before);
  });

  it('may print without end: 4 KiB are kept', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    const { output: text, code } = await sh(sandbox, `${b}yes é | ${b}head -c 3000000; exit 7`);
    expect(code).toBe(7);
    expect(text.length).toBeGreaterThan(2700);
    expect(text).toMatch(/^(é\n)+é?$/);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4096);
  });

  it('says why it cannot be run', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    await expect(sandbox.exec({ program: '/nix/none', argv: [] })).rejects.toMatchObject({
      code: 'SANDBOX_EXEC_FAILED',
      message: expect.stringContaining('No such file or directory') as string,
    });
    await expect(sandbox.exec({ program: 'sh', argv: [] })).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    await sandbox.stop({ graceMs: 0 });
    await expect(sh(sandbox, 'true')).rejects.toMatchObject({
      code: 'SANDBOX_EXEC_FAILED',
      message: expect.stringContaining('not running') as string,
    });
  });

  it('ends with the sandbox, and keeps no one from stopping or removing that', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(IDLE);
    const running = sh(sandbox, `${b}sleep 100`);
    await waitFor('the command to run', () => countOf('sleep', sandbox.id) === 2);
    await sandbox.stop({ graceMs: 0 });
    expect((await running).code).toBe(137);
    await sandbox.remove();
    expect(traces(sandbox.id)).toEqual([]);
  });

  it('runs in an adopted sandbox, and ends with the process that wanted it', async () => {
    await using bed = await testBed();
    const spec = bed.spec(IDLE, { environment: { NAME: 'adopted' } });
    await using starter = startProcess(process.execPath, [
      '--conditions=nexsrc',
      STARTER,
      bed.stateDir,
      JSON.stringify(spec),
      `${BUSYBOX} sleep 100`,
    ]);
    await waitFor('its command to run', () => starter.stdout().endsWith('\n') && countOf('sleep', spec.id) === 2, {
      timeout: 20_000,
    });
    starter.kill('SIGKILL');
    await starter.exited;
    await using runtime = await OciRuntime.open({ stateDir: bed.stateDir });
    const sandbox = await runtime.adopt(JSON.parse(starter.stdout()) as SandboxRecord);
    expect(countOf('sleep', spec.id)).toBe(1);
    const command = await sandbox?.exec({ program: BUSYBOX, argv: ['env'] });
    expect(command?.output.split('\n')).toContain('NAME=adopted');
  });
});
