/**
 * Makes a warm sandbox for each spec, invokes the last one, and stays until it is killed: the process whose death the
 * tests of warm sandboxes survive. Arguments: state folder, specs as JSON.
 */
import { OciRuntime, type SandboxSpec } from '@nex-nix/sandbox';

const [, , stateDir = '', specs = ''] = process.argv;
const runtime = await OciRuntime.open({ stateDir });
const sandboxes = await Promise.all((JSON.parse(specs) as SandboxSpec[]).map((spec) => runtime.warm(spec)));
await sandboxes.at(-1)?.invoke({
  stdin: new Uint8Array(),
  environment: {},
  maxOutput: 1000,
  onStderr: () => process.stdout.write('invoked\n'),
});
