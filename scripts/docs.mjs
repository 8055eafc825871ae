// npm run docs: writes docs/reference anew (scripts/docs.ts); with --check it only tells whether it is up to date.
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { ROOT, setUp } from './setup.mjs';

const { node, env } = await setUp([]);
const script = join(ROOT, 'scripts/docs.ts');
process.exitCode = await runToEnd(node, ['--conditions=nexsrc', script, ...process.argv.slice(2)], { cwd: ROOT, env });
