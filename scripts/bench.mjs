// npm run bench: set-up where needed, then the measurements. Arguments: --only <id prefix>, --json <file>
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { MAIN_JOB_TOOLS, ROOT, setUp } from './setup.mjs';

const { node, env } = await setUp(MAIN_JOB_TOOLS);
const options = { cwd: ROOT, env };
// What is measured is what users have: the built packages, in a process that is started as the nex command is.
process.exitCode = await runToEnd(node, [join(ROOT, 'node_modules/typescript/bin/tsc'), '--build'], options);
if (process.exitCode === 0) {
  const script = join(ROOT, 'bench/src/main.ts');
  const args = ['--max-semi-space-size=2', '--heap-growing-percent=200', script, ...process.argv.slice(2)];
  process.exitCode = await runToEnd(node, args, { ...options, env: { ...env, MALLOC_ARENA_MAX: '2' } });
}
