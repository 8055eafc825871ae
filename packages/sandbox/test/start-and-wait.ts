/**
 * Starts a sandbox, prints its record, and stays until it is killed: the process whose death the adoption tests survive.
 * Arguments: state folder, spec as JSON.
 */
import { OciRuntime, type SandboxSpec } from '@nex-nix/sandbox';

const [, , stateDir = '', spec = ''] = process.argv;
const runtime = await OciRuntime.open({ stateDir });
const sandbox = await runtime.create(JSON.parse(spec) as SandboxSpec);
await sandbox.start();
process.stdout.write(`${JSON.stringify(sandbox.record)}\n`);
await sandbox.exited;
setInterval(() => undefined, 1000);
