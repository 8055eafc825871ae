/**
 * Starts a sandbox, prints its record, and stays until it is killed: the process whose death the adoption tests survive.
 * Arguments: state folder, spec as JSON, and a command that it runs in the sandbox, if any.
 */
import { OciRuntime, type SandboxSpec } from '@nex-nix/sandbox';

const [, , stateDir = '', spec = '', command = ''] = process.argv;
const runtime = await OciRuntime.open({ stateDir });
const sandbox = await runtime.create(JSON.parse(spec) as SandboxSpec);
await sandbox.start();
process.stdout.write(`${JSON.stringify(sandbox.record)}\n`);
const [program = '', ...argv] = command.split(' ');
if (program !== '') await sandbox.exec({ program, argv });
await sandbox.exited;
setInterval(() => undefined, 1000);
