import { lstatSync } from 'node:fs';
import { hasErrno } from '../file-errors.ts';
import type { Machine } from '../machine.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { ClosurePath, SandboxSpec } from '../sandbox.ts';
import type { MachineNetworks } from './machine-networks.ts';

/** Throws SANDBOX_NOT_PERMITTED unless this process is root. */
export function assertPermitted({ uid }: Machine): void {
  if (uid === 0) return;
  throw new SandboxError(
    'SANDBOX_NOT_PERMITTED',
    `Cannot make sandboxes as user ${uid}: cgroups, user ids and disks need root`,
    { hint: 'Run the node as root, for instance with sudo' },
  );
}

/** Throws unless machines can have the network that a sandbox asks for. */
export function assertNetwork({ id, network }: SandboxSpec, networks: MachineNetworks): void {
  if (network === 'host') {
    throw new SandboxError(
      'SANDBOX_SPEC_INVALID',
      `Cannot make the sandbox "${id}": a virtual machine cannot have the network "host"`,
      { hint: 'Ask for the network "bridge" or "none", or for the sandbox "oci"' },
    );
  }
  if (network === 'bridge' && !networks.available) {
    throw new SandboxError(
      'SANDBOX_NETWORK_FAILED',
      `Cannot connect the sandbox "${id}": this machine has no network "bridge" for virtual machines`,
      { hint: 'nex node preflight' },
    );
  }
}

/** Throws unless all of a closure is there. Synchronous: hundreds of looks take less time than a few round trips through the thread pool. */
export function assertSources(closure: readonly ClosurePath[]): void {
  for (const { storePath, source } of closure) {
    try {
      lstatSync(source);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
      throw new SandboxError(
        'SANDBOX_SOURCE_NOT_FOUND',
        `Cannot show "${storePath}" in a sandbox: "${source}" does not exist`,
        { cause: error },
      );
    }
  }
}

/** For a runtime that only looks after what is there. */
export function withoutImage(id: string): SandboxError {
  const message = `Cannot make the sandbox "${id}": this node has no guest image for virtual machines`;
  return new SandboxError('SANDBOX_RUNTIME_MISSING', message, { hint: 'nex guest build' });
}

/** For an id that another sandbox has. */
export function taken(id: string): SandboxError {
  return new SandboxError('SANDBOX_ID_TAKEN', `Cannot make the sandbox "${id}": there is one of that id`, {
    hint: 'Stop and remove it first, or choose another id',
  });
}
