import { readFile } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { Network, SandboxSpec } from '../sandbox.ts';

/** How a sandbox is connected. */
export interface Attachment {
  /** File of the network namespace that it joins; undefined: this machine's own with `host`, a new one with `none`. */
  namespace: string | undefined;
  /** Addresses at which this machine reaches it. */
  addresses: readonly string[];
  /** Text of its `/etc/resolv.conf`. */
  resolvConf: string;
}

/** The networks of a runtime's sandboxes. */
export class Networks {
  /** Connects a sandbox that is about to be made. Throws SANDBOX_NETWORK_FAILED, SANDBOX_PORT_TAKEN. */
  async attach({ id, network }: Pick<SandboxSpec, 'id' | 'network' | 'exposePorts'>): Promise<Attachment> {
    if (network === 'bridge') {
      throw new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot connect the sandbox "${id}": there is no bridge`);
    }
    return attachmentWithout(network);
  }

  /** How a sandbox is connected that was attached before, by whatever process; undefined when it is not. */
  async find(_id: string): Promise<Attachment | undefined> {
    return undefined;
  }

  /** Takes back everything that `attach()` made for a sandbox. Nothing happens when there is nothing. */
  async detach(_id: string): Promise<void> {}
}

/** The networks that nothing has to be made for. */
async function attachmentWithout(network: Exclude<Network, 'bridge'>): Promise<Attachment> {
  const isHost = network === 'host';
  return {
    namespace: undefined,
    addresses: isHost ? ['127.0.0.1'] : [],
    resolvConf: isHost ? await hostResolvConf() : '',
  };
}

async function hostResolvConf(): Promise<string> {
  try {
    return await readFile('/etc/resolv.conf', 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
