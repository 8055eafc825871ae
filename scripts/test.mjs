// npm test: set-up where needed, then every test. Arguments go to vitest, for example: npm test -- packages/nix
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { installNatscli } from './natscli.mjs';
import { installTestKernel } from './test-kernel.mjs';
import { installNewestPrograms } from './newest-debian.mjs';
import { ROOT, setUp, TEST_TOOLS } from './setup.mjs';

const { node, env } = await setUp(TEST_TOOLS);
await Promise.all([installNewestPrograms(), installNatscli(), installTestKernel()]);
if (process.getuid() !== 0) {
  console.error('Not run as root: what makes a sandbox fails. To run everything: sudo env "PATH=$PATH" npm test');
}
const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
process.exitCode = await runToEnd(node, [vitest, 'run', ...process.argv.slice(2)], { cwd: ROOT, env });
