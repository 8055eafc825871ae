/**
 * Starts sandboxes in virtual machines, prints their records, and stays until it is killed: the process whose death the
 * adoption tests survive. Arguments: state folder, guest image, folder of templates,
 * specs as JSON, and `warm` for warm sandboxes.
 */
import { MicrovmRuntime, type SandboxSpec } from '@nex-nix/sandbox';

const [, , stateDir = '', guestImage = '', templateDir = '', specs = '', kind = ''] = process.argv;
const runtime = await MicrovmRuntime.open({ stateDir, guestImage, templateDir, handshakeTimeoutMs: 120_000 });
const records: unknown[] = [];
for (const spec of JSON.parse(specs) as SandboxSpec[]) {
  if (kind === 'warm') {
    records.push((await runtime.warm(spec)).id);
    continue;
  }
  const sandbox = await runtime.create(spec);
  await sandbox.start();
  records.push(sandbox.record);
}
process.stdout.write(`${JSON.stringify(records)}\n`);
setInterval(() => undefined, 1000);
