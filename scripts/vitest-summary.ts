import type { Reporter, TestModule } from 'vitest/node';

/**
 * Ends the run with one plain line that any tool can read: `12 passed, 0 failed, 1 skipped`. Before it stands what passed
 * at the second attempt only, with what was wrong at the first.
 */
export default class Summary implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    let passed = 0;
    let failed = unhandledErrors.length;
    let skipped = 0;
    const unsteady: string[] = [];
    for (const module of modules) {
      const before = failed;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed++;
        else if (state === 'failed') failed++;
        else skipped++;
        if (test.diagnostic()?.flaky === true) {
          const errors = test.result().errors?.map(({ message }) => message) ?? [];
          unsteady.push(`  ${module.moduleId}: ${test.fullName}\n    ${errors.join('\n    ')}`);
        }
      }
      if (module.state() === 'failed' && failed === before) failed++;
    }
    process.on('exit', () => {
      if (unsteady.length > 0) {
        process.stdout.write(`\nPassed at the second attempt only:\n${unsteady.join('\n')}\n`);
      }
      process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
    });
  }
}
