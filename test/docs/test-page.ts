import { describeWith } from '@nex-nix/test-kit';
import { it } from 'vitest';
import { runPage } from './run-page.ts';

/** On a busy machine; alone on one, no page takes longer than 40 s. In milliseconds. */
const TIMEOUT = 400_000;

/** A test that does what a page says. Without one of the tools it is skipped by name; blocks may need further ones. */
export function testPage(page: string, tools: readonly string[]): void {
  describeWith(['unshare', 'nsenter', 'script', 'ip', 'git', 'nats-server', 'crun', ...tools], page, () => {
    it('prints what it shows, and leaves nothing running', { timeout: TIMEOUT }, async ({ annotate }) => {
      const { skipped } = await runPage(page);
      for (const line of skipped) await annotate(`not run: ${line}`);
    });
  });
}
