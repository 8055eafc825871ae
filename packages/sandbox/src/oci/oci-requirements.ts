import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findExecutable } from '../find-executable.ts';
import type { Machine } from '../machine.ts';
import type { Requirement } from '../sandbox.ts';

const run = promisify(execFile);

/** What the `oci` runtime needs of a machine. */
export async function ociRequirements(
  machine: Machine,
  { command, closed }: { command: string; closed: boolean },
): Promise<Requirement[]> {
  const { hide } = machine.cgroups;
  return [
    rootRequirement(machine),
    await runtimeRequirement(command),
    cgroupRequirement(machine),
    userNamespaceRequirement(machine),
    ...(hide === undefined && !closed ? [] : [await unshareRequirement(hide)]),
  ];
}

/** Also of other runtimes. */
export function rootRequirement({ uid }: Machine): Requirement {
  const root = { name: 'root', essential: true, detail: `this process runs as user ${uid}` };
  return uid === 0
    ? { ...root, met: true }
    : { ...root, met: false, hint: 'Run the node as root, for instance with sudo' };
}

async function runtimeRequirement(command: string): Promise<Requirement> {
  const runtime = { name: 'OCI runtime', essential: true };
  const hint = 'apt-get install crun';
  const path = await findExecutable(command);
  if (path === undefined) return { ...runtime, met: false, detail: `"${command}" is not on PATH`, hint };
  try {
    const { stdout } = await run(path, ['--version']);
    const [version = '', ...features] = stdout.trim().split('\n');
    const met = features.some((line) => line.includes('+SECCOMP'));
    const detail = `${version} (${path})${met ? '' : ', built without seccomp'}`;
    return { ...runtime, met, detail, ...(met ? {} : { hint }) };
  } catch (error) {
    return { ...runtime, met: false, detail: `"${path} --version" fails: ${(error as Error).message}`, hint };
  }
}

/** Also of other runtimes. */
export function cgroupRequirement({ cgroups: { hierarchies, hide } }: Machine): Requirement {
  const controllers = new Set(hierarchies.flatMap((hierarchy) => hierarchy.controllers));
  const missing = (['memory', 'pids', 'cpu'] as const).filter((controller) => !controllers.has(controller));
  const version = hierarchies[0] === undefined ? 'none' : `version ${hierarchies[0].version}`;
  const layout = hide === undefined ? version : 'version 1 beside version 2';
  return missing.length === 0
    ? { name: 'cgroups', essential: false, met: true, detail: layout }
    : {
        name: 'cgroups',
        essential: false,
        met: false,
        detail: `${layout}, without ${missing.join(', ')}`,
        hint: 'Without them no such limit can be set; sandboxes with one are refused unless unlimited ones are allowed',
      };
}

function userNamespaceRequirement({ userNamespaces }: Machine): Requirement {
  return userNamespaces
    ? { name: 'user namespaces', essential: false, met: true, detail: 'available' }
    : {
        name: 'user namespaces',
        essential: false,
        met: false,
        detail: 'none can be made; programs run as an unprivileged user of this machine instead',
        hint: 'sysctl user.max_user_namespaces=10000',
      };
}

async function unshareRequirement(hide: string | undefined): Promise<Requirement> {
  const path = await findExecutable('unshare');
  const why =
    hide === undefined
      ? 'only root may enter the state folder, so crun needs mounts made for it'
      : `crun needs "${hide}" hidden from it`;
  const unshare = { name: 'unshare', essential: true, detail: `${why}, by unshare (${path ?? 'not on PATH'})` };
  return path === undefined
    ? { ...unshare, met: false, hint: 'apt-get install util-linux' }
    : { ...unshare, met: true };
}
