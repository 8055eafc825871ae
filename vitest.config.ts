import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** What talks to nats-server most is tested on the system's own and on the newest one. */
const ON_NEWEST_NATS = [
  'packages/cache/test/permissions.test.ts',
  'packages/cache/test/push-pull.test.ts',
  'packages/cache/test/server-versions.test.ts',
  'packages/cache/test/service.test.ts',
];

export default defineConfig({
  resolve: { conditions: ['nexsrc'] },
  ssr: { resolve: { conditions: ['nexsrc'] } },
  test: {
    exclude: ['**/node_modules/**', '**/dist/**'],
    pool: 'forks',
    // Most of them wait for servers and disks: one a core, and one more that uses what two leave.
    maxWorkers: availableParallelism() + 1,
    // A second attempt where a change is judged: real servers on a busy machine are late at times. The end of the run names
    // what needed it.
    retry: process.env['NEX_TEST_RETRY'] === undefined ? 0 : 1,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default', './scripts/vitest-summary.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'all',
          include: [
            'packages/*/src/**/*.test.ts',
            'packages/*/test/**/*.test.ts',
            'test/**/*.test.ts',
            'examples/**/*.test.ts',
            'bench/**/*.test.ts',
          ],
        },
      },
      {
        extends: true,
        test: { name: 'newest nats-server', include: ON_NEWEST_NATS, env: { NEX_NATS_SERVER: 'newest' } },
      },
    ],
  },
});
