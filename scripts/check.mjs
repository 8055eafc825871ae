// npm run check: types, lint (import direction included), format, reference, unused code. Runs all, then says which failed.
// What does not need what `tsc -b` makes runs beside it.
import { runToEnd } from './run.mjs';
import { ROOT, setUp } from './setup.mjs';

const { env } = await setUp([]);
const LANES = [
  [
    ['types', 'tsc', '-b'],
    ['types of tests and scripts', 'tsc', '-p', 'tsconfig.scripts.json'],
    ['lint and import direction', 'oxlint'],
  ],
  [
    ['lock file (completed by node scripts/complete-lock.mjs)', 'npm', 'ci', '--dry-run', '--offline', '--silent'],
    ['format', 'oxfmt', '--check'],
    ['docs/reference (written by npm run docs)', 'node', '--conditions=nexsrc', 'scripts/docs.ts', '--check'],
    ['unused code and dependencies', 'knip', '--no-progress'],
  ],
];

const failed = [];
await Promise.all(
  LANES.map(async (checks) => {
    for (const [name, command, ...args] of checks) {
      if ((await runToEnd(command, args, { cwd: ROOT, env })) !== 0) failed.push(name);
    }
  }),
);
const count = LANES.flat().length;
console.log(failed.length === 0 ? `check: ${count} of ${count} clean` : `check failed: ${failed.join('; ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
