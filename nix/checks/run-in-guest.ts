// Runs one program in a guest and prints what it prints:
//
//   node --conditions=nexsrc run-in-guest.ts IMAGE STORE_PATHS PROGRAM [ARGUMENT...]
//
// IMAGE is the folder of a guest image, STORE_PATHS a file with the program's closure, a store path a line. Needs root, QEMU
// and erofs-utils. Ends with the program's exit code, and leaves nothing.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MicrovmRuntime } from '../../packages/sandbox/src/microvm/microvm-runtime.ts';

const [guestImage, storePaths, program, ...argv] = process.argv.slice(2);
if (guestImage === undefined || storePaths === undefined || program === undefined) {
  throw new Error('usage: node --conditions=nexsrc run-in-guest.ts IMAGE STORE_PATHS PROGRAM [ARGUMENT...]');
}

const lines = (await readFile(storePaths, 'utf8')).split('\n').filter((line) => line !== '');
const stateDir = await mkdtemp(join(tmpdir(), 'nex-run-in-guest-'));
try {
  await using runtime = await MicrovmRuntime.open({
    stateDir,
    guestImage,
    poolSize: 0,
    useTemplates: false,
    // The machine that this runs on may be emulated itself.
    handshakeTimeoutMs: 300_000,
  });
  await using sandbox = await runtime.create({
    id: 'run-in-guest',
    closure: lines.map((storePath) => ({ storePath, source: storePath })),
    program,
    argv,
    environment: {},
    resources: { memory: 128 << 20, pids: 64, tmp: 16 << 20 },
    network: 'none',
  });
  await sandbox.start();
  const { code } = await sandbox.exited;
  for await (const { stream, line } of sandbox.logs()) process[stream].write(Buffer.concat([line, Buffer.from('\n')]));
  await sandbox.remove();
  process.exitCode = code ?? 1;
} finally {
  await rm(stateDir, { recursive: true, force: true });
}
