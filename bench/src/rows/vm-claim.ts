import { execFileSync } from 'node:child_process';
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { buildMinimalGuest, findKernel } from '@nex-nix/guest';
import { MicrovmRuntime, QemuVmm } from '@nex-nix/sandbox';
import { findTool, tempDir, waitFor } from '@nex-nix/test-kit';
import { buildWithHostNode } from '../../../examples/echo/build-with-host-node.ts';
import { bundleEcho } from '../../../examples/echo/bundle.ts';
import { median, type Measurement, type Row } from '../row.ts';

const RUNS = 11;

/** Time in which what a start has left to do is done, in milliseconds. */
const PAUSE = 500;

const SCRIPT_PATH = `/nix/store/${'0'.repeat(32)}-hello-script`;

/** The closure of a program on Node, of which the guest's image has all but the script. */
const claim: Row = {
  id: 'vm.claim',
  what: 'start of a sandbox with a machine out of the pool (QEMU without KVM), until the first line of a program on Node',
  unit: 'ms',
  wanted: 600,
  async measure(): Promise<Measurement> {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await tempDir('nex-bench-claim-'));
    const { closure, node } = await nodeClosure(dir.path);
    const script = join(dir.path, 'script');
    await mkdir(script);
    await writeFile(join(script, 'hello.js'), `console.log('hello');`);
    const guestImage = join(dir.path, 'image');
    const kernel = await findKernel(findTool('linux-image') ?? '/');
    await buildMinimalGuest({ output: guestImage, kernel, storePaths: closure });
    let pooled = 0;
    const runtime = await MicrovmRuntime.open({
      stateDir: join(dir.path, 'state'),
      guestImage,
      vmm: new QemuVmm({ stateDir: join(dir.path, 'vmm'), accelerator: 'tcg' }),
      onEvent: ({ type }) => {
        if (type === 'pooled') pooled++;
      },
    });
    stack.use(runtime);
    const values: number[] = [];
    const started: number[] = [];
    const sizes: number[] = [];
    for (let run = 0; run <= RUNS; run++) {
      await waitFor('a machine in the pool', () => pooled > run, { timeout: 60_000 });
      await delay(PAUSE);
      const sandbox = await runtime.create({
        id: `bench-${run}`,
        closure: [...closure, { storePath: SCRIPT_PATH, source: script }],
        program: node,
        argv: [`${SCRIPT_PATH}/hello.js`],
        environment: {},
        resources: { memory: 256 << 20, pids: 64 },
        network: 'none',
      });
      const began = performance.now();
      await sandbox.start();
      const running = performance.now() - began;
      let time = Number.NaN;
      for await (const { line } of sandbox.logs(undefined, { follow: true })) {
        time = performance.now() - began;
        if (Buffer.from(line).toString() !== 'hello')
          throw new Error(`The program said "${Buffer.from(line).toString()}"`);
        break;
      }
      const { machineMemory = 0 } = await sandbox.usage();
      await sandbox.exited;
      await sandbox.remove();
      // The first one builds the disk.
      if (run === 0) continue;
      values.push(time);
      started.push(running);
      if (machineMemory > 0) sizes.push(machineMemory);
    }
    const memory = sizes.length === 0 ? 'not known' : `${(median(sizes) / 2 ** 20).toFixed(0)} MiB`;
    return {
      values,
      notes: [
        `  until the program was executed: ${median(started).toFixed(0)} ms; slowest: ${Math.max(...values).toFixed(0)} ms`,
        `  memory of the machine at that moment: ${memory}`,
      ],
    };
  },
};

export const vmClaimRows: readonly Row[] = [claim];

/** Store paths of this machine's Node with its libraries. */
async function nodeClosure(folder: string) {
  const outLink = join(folder, 'echo');
  await bundleEcho();
  await buildWithHostNode({ outLink });
  const echo = await realpath(outLink);
  const all = execFileSync('nix-store', ['--query', '--requisites', echo], { encoding: 'utf8' }).trim().split('\n');
  const closure = all.filter((storePath) => storePath !== echo).map((storePath) => ({ storePath, source: storePath }));
  const path = closure.find(({ storePath }) => /^\/nix\/store\/[^-]+-nodejs-/.test(storePath))?.storePath;
  if (path === undefined) throw new Error('Cannot find Node in the closure of the echo service');
  return { closure, node: `${path}/bin/node` };
}
