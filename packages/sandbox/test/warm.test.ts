import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  OciRuntime,
  type Invocation,
  type InvocationResult,
  type SandboxSpec,
  type WarmSandbox,
} from '@nex-nix/sandbox';
import { describeWith, startProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BUSYBOX_PATH, processesOf, testBed, TOOLS, traces, usersOf } from './bed.ts';

/** The file that makes warm sandboxes in another process. */
const WARM_STARTER = join(import.meta.dirname, 'warm-and-wait.ts');

type Bed = Awaited<ReturnType<typeof testBed>>;

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

describeWith(TOOLS, 'a warm sandbox', () => {
  let bed: Bed;
  const ids: string[] = [];
  beforeAll(async () => {
    bed = await testBed();
    const make = bed.spec;
    bed.spec = (...args) => {
      const spec = make(...args);
      ids.push(spec.id);
      return spec;
    };
  });
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
    expect(ids.flatMap((id) => traces(id))).toEqual([]);
  });

  const call = async (
    sandbox: WarmSandbox,
    change: Partial<Invocation> = {},
  ): Promise<InvocationResult & { lines: string[] }> => {
    const lines: string[] = [];
    const result = await sandbox.invoke({
      stdin: Buffer.alloc(0),
      environment: {},
      maxOutput: 2 ** 20,
      onStderr: (line) => lines.push(text(line)),
      ...change,
    });
    return { ...result, lines };
  };
  const run = async (script: string, invocation: Partial<Invocation> = {}, change: Partial<SandboxSpec> = {}) => {
    await using sandbox = await bed.runtime.warm(bed.spec(script, change));
    return await call(sandbox, invocation);
  };

  it('runs nothing of the program before it is invoked, then with its payload and its environment', async () => {
    const spec = bed.spec('env | sort; cat; echo failed >&2; printf end >/dev/stderr; exit 3', {
      environment: { PATH: '/bin', OWN: 'kept', CHANGED: 'before' },
    });
    await using sandbox = await bed.runtime.warm(spec);
    // Its first process is the gate, in everything that a program has: user, cgroup, pid namespace.
    expect(usersOf(spec.id)).toHaveLength(1);
    const { exit, stdout, lines } = await call(sandbox, {
      stdin: Buffer.from('payload\n'),
      environment: { CHANGED: 'a = b\nc', ADDED: '' },
    });
    expect(exit).toEqual({ code: 3, outOfMemory: false });
    const said = text(stdout).split('\n');
    expect(said.filter((line) => !/^(PWD|SHLVL)=/.test(line))).toEqual([
      'ADDED=',
      'CHANGED=a = b',
      'HOME=/tmp',
      'OWN=kept',
      'PATH=/bin',
      'c',
      'payload',
      '',
    ]);
    expect(lines).toEqual(['failed', 'end']);
    expect(await sandbox.exited).toEqual(exit);
    expect(processesOf(spec.id)).toEqual([]);
    await expect(call(sandbox)).rejects.toMatchObject({ code: 'SANDBOX_ALREADY_STARTED' });
    await sandbox[Symbol.asyncDispose]();
    expect(traces(spec.id)).toEqual([]);
    expect(existsSync(join(bed.stateDir, spec.id))).toBe(false);
  });

  it('isolates the program as any sandbox does', async () => {
    const script = [
      'id -u',
      'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status',
      'ls /proc | grep -c "^[0-9]"',
      'touch /nix/store/x /run/x /x 2>&1 | grep -cE "Read-only|denied"',
      'chmod 777 /run/.gate 2>&1',
      'ls -l /proc/self/fd | grep -c -- "->"',
      'cat /proc/net/dev | grep -c :',
    ].join('; ');
    const { stdout } = await run(script);
    const lines = text(stdout)
      .trim()
      .split('\n')
      .map((line) => line.replaceAll('\t', ' '));
    expect(lines).toEqual([
      '1000',
      'CapEff: 0000000000000000',
      'CapBnd: 0000000000000000',
      'NoNewPrivs: 1',
      'Seccomp: 2',
      expect.stringMatching(/^[1-4]$/),
      '3',
      expect.stringContaining('Read-only file system'),
      expect.stringMatching(/^[34]$/),
      '1',
    ]);
  });

  it('moves a payload and a reply that are larger than a pipe', async () => {
    const stdin = Buffer.alloc(700_001, 'abcdefg');
    const { stdout } = await run('cat', { stdin });
    expect(Buffer.compare(stdout, stdin)).toBe(0);
  });

  it('does not mind a program that leaves its payload unread', async () => {
    const { exit, stdout } = await run('exec <&-; echo enough', { stdin: Buffer.alloc(2 ** 20) });
    expect({ exit, stdout: text(stdout) }).toEqual({ exit: { code: 0, outOfMemory: false }, stdout: 'enough\n' });
  });

  it('ends what the program leaves behind, even if that holds its output', async () => {
    const spec = bed.spec('(sleep 1000; echo late) & echo soon');
    await using sandbox = await bed.runtime.warm(spec);
    expect(text((await call(sandbox)).stdout)).toBe('soon\n');
    expect(processesOf(spec.id)).toEqual([]);
  });

  it('kills a program that prints more than is taken', async () => {
    const spec = bed.spec('while :; do echo 0123456789abcdef; done');
    await using sandbox = await bed.runtime.warm(spec);
    await expect(call(sandbox, { maxOutput: 1000 })).rejects.toMatchObject({ code: 'SANDBOX_OUTPUT_TOO_LARGE' });
    expect(processesOf(spec.id)).toEqual([]);
  });

  it('kills everything when the invocation is given up', async () => {
    const spec = bed.spec('trap "" TERM INT HUP; sleep 1000 & echo begun >&2; wait');
    await using sandbox = await bed.runtime.warm(spec);
    const abort = new AbortController();
    const why = new Error('given up');
    const onStderr = () => abort.abort(why);
    await expect(call(sandbox, { signal: abort.signal, onStderr })).rejects.toBe(why);
    expect(processesOf(spec.id)).toEqual([]);
    expect((await sandbox.exited).signal).toBe('SIGKILL');
  });

  it('tells when the memory limit ended the program', async () => {
    const script = 'exec dd if=/dev/zero of=/tmp/big bs=1M count=60';
    const { exit } = await run(script, {}, { resources: { memory: 24 << 20, tmp: 64 << 20 } });
    expect(exit).toMatchObject({ outOfMemory: true });
  });

  it('holds the program to its limit of processes from its first moment', async () => {
    const { exit, stdout, lines } = await run('echo one; (echo two); echo three', {}, { resources: { pids: 1 } });
    // What comes after a fork that fails is up to the shell: this one ends.
    expect({ code: exit.code, stdout: text(stdout) }).toEqual({ code: 2, stdout: 'one\n' });
    expect(lines.join()).toContain("can't fork");
  });

  it('gives a line of any length on stderr in pieces, and the last one without its newline', async () => {
    const { lines } = await run('dd if=/dev/zero bs=1k count=100 2>/dev/null | tr "\\0" x >&2; printf "\\n\\ny" >&2');
    expect(lines.map((line) => line.length)).toEqual([64 * 1024, 36 * 1024, 0, 1]);
  });

  it('lets a program print on stderr no faster than its log rate', async () => {
    const began = performance.now();
    const script = 'dd if=/dev/zero bs=1k count=400 2>/dev/null | tr "\\0" "\\n" >&2';
    const { lines } = await run(script, {}, { resources: { logRate: 200 << 10 } });
    expect(lines).toHaveLength(400 << 10);
    // The first 200 KiB are free, and a pipe takes 64 KiB or two.
    expect(performance.now() - began).toBeGreaterThan(300);
  });

  it('keeps what one invocation writes from the next', async () => {
    const script = 'ls -A /tmp /dev/shm; echo left >/tmp/left; echo left >/dev/shm/left';
    const sandboxes = await Promise.all([1, 2].map(() => bed.runtime.warm(bed.spec(script))));
    for (const sandbox of sandboxes) {
      await using used = sandbox;
      expect(text((await call(used)).stdout)).toBe('/dev/shm:\n\n/tmp:\n');
    }
  });

  it.each([
    ['script', '#!/nix/store/00000000000000000000000000000000-absent/bin/sh\n', 'interpreter or dynamic loader'],
    ['data', 'no program', 'it is no program for this machine'],
  ])('says why a program does not run: %s', async (name, content, message) => {
    const source = join(bed.path, name);
    const storePath = `/nix/store/00000000000000000000000000000001-${name}`;
    await writeFile(source, content, { mode: 0o755 });
    const spec = bed.spec('', { closure: [{ storePath, source }], program: storePath, argv: [] });
    await using sandbox = await bed.runtime.warm(spec);
    await expect(call(sandbox)).rejects.toMatchObject({
      code: 'SANDBOX_START_FAILED',
      message: expect.stringContaining(message) as unknown,
    });
  });

  it('is not made for a program that is not there', async () => {
    const spec = bed.spec('', { program: `${BUSYBOX_PATH}/bin/absent` });
    await expect(bed.runtime.warm(spec)).rejects.toMatchObject({ code: 'SANDBOX_PROGRAM_NOT_FOUND' });
    expect(traces(spec.id)).toEqual([]);
    expect(existsSync(join(bed.stateDir, spec.id))).toBe(false);
  });

  it.each([
    ['a name with "="', { 'A=B': 'c' }, 'SANDBOX_SPEC_INVALID'],
    ['a name with a newline', { 'A\nB': 'c' }, 'SANDBOX_SPEC_INVALID'],
    ['a value with NUL', { A: 'b\0C=d' }, 'SANDBOX_SPEC_INVALID'],
    ['more than the gate takes', { A: 'x'.repeat(2 ** 21) }, 'SANDBOX_START_FAILED'],
    ['more than the kernel takes', { A: 'x'.repeat(2 ** 18) }, 'SANDBOX_START_FAILED'],
  ])('refuses an environment with %s, and nothing of it is left', async (_, environment, code) => {
    const spec = bed.spec('echo ran');
    {
      await using sandbox = await bed.runtime.warm(spec);
      await expect(call(sandbox, { environment })).rejects.toMatchObject({ code });
    }
    expect(traces(spec.id)).toEqual([]);
  });

  it('prints what the gate prints without being taken for it', async () => {
    const { exit, stdout } = await run('printf "0123456789abcdef\\002"; exit 127');
    expect({ exit, stdout: text(stdout) }).toEqual({
      exit: { code: 127, outOfMemory: false },
      stdout: '0123456789abcdef\u0002',
    });
  });

  it('ends with its runtime', async () => {
    const spec = bed.spec('echo ran');
    const runtime = await OciRuntime.open({ stateDir: join(bed.path, 'other') });
    const sandbox = await runtime.warm(spec);
    await runtime[Symbol.asyncDispose]();
    await sandbox.exited;
    expect(traces(spec.id)).toEqual([]);
  });

  it('says that it has ended when something kills it while it waits', async () => {
    const spec = bed.spec('echo ran');
    await using sandbox = await bed.runtime.warm(spec);
    for (const pid of processesOf(spec.id)) process.kill(pid, 'SIGKILL');
    expect((await sandbox.exited).signal).toBe('SIGKILL');
    await expect(call(sandbox)).rejects.toMatchObject({ code: 'SANDBOX_START_FAILED' });
  });

  it('is started by its invocation where there is no gate for the machine', async () => {
    const spec = bed.spec('cat; echo $ADDED; exit 4');
    await using sandbox = await withArch('mips', () => bed.runtime.warm(spec));
    expect(processesOf(spec.id)).toEqual([]);
    const { exit, stdout } = await call(sandbox, { stdin: Buffer.from('in\n'), environment: { ADDED: 'out' } });
    expect({ exit, stdout: text(stdout) }).toEqual({ exit: { code: 4, outOfMemory: false }, stdout: 'in\nout\n' });
  });

  it('belongs to its process: others leave it alone until that is killed, and then clear it away', async () => {
    const idle = bed.spec('echo ran');
    const busy = bed.spec('echo begun >&2; while :; do sleep 0.1; done');
    await using maker = startProcess(process.execPath, [
      '--conditions=nexsrc',
      WARM_STARTER,
      bed.stateDir,
      JSON.stringify([idle, busy]),
    ]);
    let ended = false;
    void maker.exited.then(() => (ended = true));
    await waitFor('the invocation', () => {
      if (ended) throw new Error(maker.output());
      return maker.stdout().includes('invoked');
    });
    await using other = await OciRuntime.open({ stateDir: bed.stateDir });
    const records = (await other.list()).filter(({ id }) => id === idle.id || id === busy.id);
    expect(records).toHaveLength(2);
    for (const record of records) expect(await other.adopt(record)).toBeUndefined();
    await expect(other.warm(idle)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN' });
    expect(processesOf(idle.id).length).toBeGreaterThan(0);

    maker.kill('SIGKILL');
    await maker.exited;
    await waitFor('the gate to end', () => processesOf(idle.id).length === 0);
    expect(processesOf(busy.id).length).toBeGreaterThan(0);
    for (const record of records) expect(await other.adopt(record)).toBeUndefined();
    for (const { id } of records) expect(traces(id)).toEqual([]);
    expect((await other.list()).filter(({ id }) => id === idle.id || id === busy.id)).toEqual([]);
  });
});

/** Has Node say, for the time of an action, that the machine has another instruction set. */
async function withArch<T>(name: string, action: () => Promise<T>): Promise<T> {
  const { arch } = process;
  Object.defineProperty(process, 'arch', { value: name });
  try {
    return await action();
  } finally {
    Object.defineProperty(process, 'arch', { value: arch });
  }
}
