import type { SandboxSpec } from '../sandbox.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { AttachmentRecord, AttachmentRecords } from './attachment-records.ts';
import { portOwner } from './port-owner.ts';

/** Throws SANDBOX_SPEC_INVALID when a port is none, or named twice. */
export function checkPorts({ id, exposePorts: ports = [] }: Pick<SandboxSpec, 'id' | 'exposePorts'>): void {
  const bad = ports.find(
    (port, index) => !(Number.isInteger(port) && port > 0 && port < 65_536) || ports.indexOf(port) !== index,
  );
  if (bad === undefined) return;
  const message = `Cannot make the sandbox "${id}": the port ${bad} is no number from 1 to 65535, or is there twice`;
  throw new SandboxError('SANDBOX_SPEC_INVALID', message);
}

/** Takes the ports that a sandbox exposes. Throws SANDBOX_PORT_TAKEN, with who has one. */
export async function claimPorts(
  records: AttachmentRecords,
  { id, containerId, ports }: AttachmentRecord,
): Promise<void> {
  for (const port of ports) {
    const other = await records.claim(port, containerId);
    const owner =
      other === undefined ? await portOwner(port) : `the sandbox "${(await records.read(other))?.id ?? other}"`;
    if (owner === undefined) continue;
    throw new SandboxError(
      'SANDBOX_PORT_TAKEN',
      `Cannot expose port ${port} of the sandbox "${id}": ${owner} has that port of this machine`,
      { hint: 'Choose another port, or end whoever has it' },
    );
  }
}
