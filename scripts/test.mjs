// npm test: set-up where needed, then every test. Arguments go to vitest, for example: npm test -- packages/nix
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { ROOT, setUp, TEST_TOOLS } from './setup.mjs';

const { node, env } = setUp(TEST_TOOLS);
const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
process.exitCode = await runToEnd(node, [vitest, 'run', ...process.argv.slice(2)], { cwd: ROOT, env });
