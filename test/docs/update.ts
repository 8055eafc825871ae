// npm run docs:update -- PAGE…: writes what commands really print into pages that show something else.
import { pages } from './pages.ts';
import { writeNotRun } from './not-run.ts';
import { runPage, writeChanges } from './run-page.ts';

const named = process.argv.slice(2);
for (const page of named.length === 0 ? await pages() : named) {
  const start = performance.now();
  const { changes, skipped } = await runPage(page, {
    collect: true,
    onCommand: ({ text }) => process.stderr.write(`${Math.round(performance.now() - start)} ms $ ${text}\n`),
  });
  await writeChanges(page, changes);
  process.stdout.write(`${page}: ${changes.length} changed${skipped.map((line) => `\nnot run: ${line}`).join('')}\n`);
}
await writeNotRun();
