import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['nexsrc'] },
  ssr: { resolve: { conditions: ['nexsrc'] } },
  test: {
    include: [
      'packages/*/src/**/*.test.ts',
      'packages/*/test/**/*.test.ts',
      'test/**/*.test.ts',
      'examples/**/*.test.ts',
      'bench/**/*.test.ts',
    ],
    exclude: ['**/node_modules/**', '**/dist/**'],
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default', './scripts/vitest-summary.ts'],
  },
});
