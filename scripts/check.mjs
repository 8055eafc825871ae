// npm run check: types, lint (import direction included), format, reference, unused code. Runs all, then says which failed.
import { runToEnd } from './run.mjs';
import { ROOT, setUp } from './setup.mjs';

const { env } = await setUp([]);
const CHECKS = [
  ['lock file (completed by node scripts/complete-lock.mjs)', 'npm', 'ci', '--dry-run', '--offline', '--silent'],
  ['types', 'tsc', '-b'],
  ['types of tests and scripts', 'tsc', '-p', 'tsconfig.scripts.json'],
  ['lint and import direction', 'oxlint'],
  ['format', 'oxfmt', '--check'],
  ['docs/reference (written by npm run docs)', 'node', '--conditions=nexsrc', 'scripts/docs.ts', '--check'],
  ['unused code and dependencies', 'knip', '--no-progress'],
];

const failed = [];
for (const [name, command, ...args] of CHECKS) {
  if ((await runToEnd(command, args, { cwd: ROOT, env })) !== 0) failed.push(name);
}
console.log(
  failed.length === 0 ? `check: ${CHECKS.length} of ${CHECKS.length} clean` : `check failed: ${failed.join('; ')}`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
