import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  MicrovmRuntime,
  type MicrovmEvent,
  type MicrovmRuntimeOptions,
  type Sandbox,
  type SandboxSpec,
} from '@nex-nix/sandbox';
import { findTool, guestImage, tempDir } from '@nex-nix/test-kit';
import { BUSYBOX, BUSYBOX_PATH, output, processesOf, readOrEmpty } from './bed.ts';

export const TOOLS = ['qemu-system-x86_64', 'mkfs.erofs', 'busybox'];

/** Far longer than anything here takes on a busy machine. */
export const TIMEOUT = 180_000;

/** A runtime of virtual machines with a store that holds busybox; whatever was made in it ends with it. */
export async function microvmBed(options: Partial<MicrovmRuntimeOptions> = {}) {
  const dir = await tempDir('nex-microvm-');
  const stateDir = join(dir.path, 'state');
  const source = join(dir.path, 'store', 'busybox');
  await mkdir(join(source, 'bin'), { recursive: true });
  await copyFile(findTool('busybox') ?? '', join(source, 'bin', 'busybox'));
  const events: MicrovmEvent[] = [];
  const image = await guestImage();
  // Taken once for all tests.
  const templateDir = join(dirname(dirname(image)), 'guest-templates');
  const open = (change: Partial<MicrovmRuntimeOptions> = {}) =>
    MicrovmRuntime.open({
      stateDir,
      guestImage: image,
      onEvent: (event) => events.push(event),
      handshakeTimeoutMs: 120_000,
      templateDir,
      ...options,
      ...change,
    });
  const runtime = await open();

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
    image,
    templateDir,
    /** What became of machines. */
    events,
    /** Another runtime of the same state folder. */
    open,
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

/** The machine of a sandbox. */
export async function machineOf(stateDir: string, id: string): Promise<string> {
  const { vm } = JSON.parse(await readFile(join(stateDir, id, 'machine.json'), 'utf8')) as { vm: { id: string } };
  return vm.id;
}

/** Process id of the VMM of a machine, as this machine numbers it. */
export function vmmOf(machine: string): number {
  const pid = processesOf(machine).find((candidate) => readOrEmpty(`/proc/${candidate}/comm`).startsWith('qemu'));
  if (pid === undefined) throw new Error(`The machine "${machine}" has no VMM`);
  return pid;
}

/** Machines of a state folder, and all processes that have to do with it. */
export function machinesOf(stateDir: string): string[] {
  const folder = join(stateDir, '.machines');
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** The file that starts a sandbox in another process. */
export const MICROVM_STARTER = join(dirname(import.meta.filename), 'microvm-start-and-wait.ts');
