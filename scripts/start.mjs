// npm start: set-up where needed, then the main job (scripts/main-job.ts) on the pinned Node.
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { MAIN_JOB_TOOLS, ROOT, setUp } from './setup.mjs';

const { node, env } = await setUp(MAIN_JOB_TOOLS);
const script = join(ROOT, 'scripts/main-job.ts');
process.exitCode = await runToEnd(node, ['--conditions=nexsrc', script, ...process.argv.slice(2)], { env });
