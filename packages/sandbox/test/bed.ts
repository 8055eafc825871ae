import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OciRuntime, type OciRuntimeOptions, type Sandbox, type SandboxSpec } from '@nex-nix/sandbox';
import { findTool, tempDir } from '@nex-nix/test-kit';

export const TOOLS = ['crun', 'busybox'];

export const BUSYBOX_PATH = '/nix/store/00000000000000000000000000000000-busybox';
export const BUSYBOX = `${BUSYBOX_PATH}/bin/busybox`;

/** A runtime with a store that holds busybox, in a temporary folder; whatever was made in it ends with it. */
export async function testBed(options: Partial<OciRuntimeOptions> = {}) {
  const dir = await tempDir('nex-sandbox-');
  const stateDir = join(dir.path, 'state');
  const source = join(dir.path, 'store', 'busybox');
  await mkdir(join(source, 'bin'), { recursive: true });
  await copyFile(findTool('busybox') ?? '', join(source, 'bin', 'busybox'));
  const runtime = await OciRuntime.open({ stateDir, ...options }).catch(async (error: unknown) => {
    await dir[Symbol.asyncDispose]();
    throw error;
  });

  const spec = (script: string, change: Partial<SandboxSpec> = {}): SandboxSpec => ({
    id: `t-${randomBytes(6).toString('hex')}`,
    closure: [{ storePath: BUSYBOX_PATH, source }],
    program: BUSYBOX,
    argv: ['sh', '-c', script],
    environment: { PATH: '/bin' },
    resources: {},
    network: 'none',
    ...change,
  });

  const start = async (script: string, change: Partial<SandboxSpec> = {}): Promise<Sandbox> => {
    const sandbox = await runtime.create(spec(script, change));
    await sandbox.start();
    return sandbox;
  };

  return {
    path: dir.path,
    stateDir,
    source,
    runtime,
    spec,
    start,
    /** Starts a script, waits for its end, and gives what it printed. */
    async run(script: string, change: Partial<SandboxSpec> = {}) {
      const sandbox = await start(script, change);
      const exit = await sandbox.exited;
      return { exit, ...(await output(sandbox)), sandbox };
    },
    async [Symbol.asyncDispose]() {
      for (const record of await runtime.list()) {
        const sandbox = await runtime.adopt(record);
        await sandbox?.stop({ graceMs: 0 });
        await sandbox?.remove();
      }
      await runtime[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** Everything a sandbox has printed so far. */
export async function output(sandbox: Sandbox): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  for await (const { stream, line } of sandbox.logs()) text[stream] += `${Buffer.from(line).toString()}\n`;
  return text;
}

/** Waits until a sandbox has printed a line. */
export async function printed(sandbox: Sandbox, wanted: string): Promise<void> {
  for await (const { line } of sandbox.logs(undefined, { follow: true })) {
    if (Buffer.from(line).toString() === wanted) return;
  }
  throw new Error(`The sandbox ended without printing "${wanted}"`);
}

/** What of a sandbox is on this machine: processes that name it, cgroups, mounts. */
export function traces(word: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const command = readOrEmpty(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
    const cgroups = readOrEmpty(`/proc/${pid}/cgroup`);
    if (command.includes(word) || cgroups.includes(word)) found.push(`process ${pid}: ${command}`);
  }
  const mounts = readOrEmpty('/proc/self/mountinfo');
  if (mounts.includes(word)) found.push('mount');
  for (const [, folder = ''] of mounts.matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm)) {
    const parent = join(folder, 'nex-nix');
    found.push(
      ...namesIn(parent)
        .filter((name) => name === word)
        .map((name) => join(parent, name)),
    );
  }
  return found;
}

/**
 * Process ids of everything alive whose cgroup is that of a sandbox, or below it. In version 2 the dead that nobody has
 * buried yet name theirs too.
 */
export function processesOf(id: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => /\/nex-nix\/([\w-]+)/.exec(readOrEmpty(`/proc/${pid}/cgroup`))?.[1] === id)
    .filter((pid) => /^State:\t[^ZX]/m.test(readOrEmpty(`/proc/${pid}/status`)))
    .map(Number);
}

/** User ids, on this machine, of the processes inside a sandbox: those with a pid namespace of their own. */
export function usersOf(id: string): number[] {
  return processesOf(id)
    .map((pid) => readOrEmpty(`/proc/${pid}/status`))
    .filter((status) => /^NSpid:\t\d+\t\d+$/m.test(status))
    .map((status) => Number(/^Uid:\t(\d+)/m.exec(status)?.[1]));
}

/** Process id, on this machine, of a sandbox's supervisor. */
export function supervisorOf(stateDir: string, id: string): number {
  return Number(readOrEmpty(join(stateDir, id, 'supervisor')).split(' ')[1]);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Text of a file; '' when it, or the process that it tells of, is not there. */
export function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** The file that starts a sandbox in another process; see `start-and-wait.ts`. */
export const STARTER = join(dirname(import.meta.filename), 'start-and-wait.ts');
