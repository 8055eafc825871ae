// npm run bench: set-up where needed, then the measurements. Arguments: --only <id prefix>, --json <file>
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { MAIN_JOB_TOOLS, ROOT, setUp } from './setup.mjs';

const { node, env } = await setUp(MAIN_JOB_TOOLS);
const script = join(ROOT, 'bench/src/main.ts');
process.exitCode = await runToEnd(node, ['--conditions=nexsrc', script, ...process.argv.slice(2)], { cwd: ROOT, env });
