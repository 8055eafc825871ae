import { execFile } from 'node:child_process';
import { appendFile, cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { errorCodes } from '../../scripts/docs/errors-page.ts';

const ROOT = join(import.meta.dirname, '../..');

const TIMEOUT = 60_000;

interface Outcome {
  readonly status: number;
  readonly stderr: string;
}

/** Runs the generator of the reference, as others on other machines would. */
function docs(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  execFile(
    process.execPath,
    ['--conditions=nexsrc', join(ROOT, 'scripts/docs.ts'), ...args],
    { cwd: '/', env: { PATH: process.env['PATH'], ...env } },
    (error, _, stderr) => resolve({ status: error === null ? 0 : Number(error.code), stderr }),
  );
  return promise;
}

it('docs/reference is what the code says (otherwise: npm run docs)', { timeout: TIMEOUT }, async () => {
  expect(await docs(['--check'])).toEqual({ status: 0, stderr: '' });
});

it(
  'the reference is the same bytes for everybody; a page that was changed, lost or added is named',
  { timeout: TIMEOUT },
  async () => {
    await using dir = await tempDir();
    await cp(join(ROOT, 'docs/reference'), dir.path, { recursive: true });
    await appendFile(join(dir.path, 'errors.md'), 'x');
    await rm(join(dir.path, 'metrics.md'));
    await writeFile(join(dir.path, 'old.md'), '');
    const { status, stderr } = await docs(['--check', '--folder', dir.path], {
      HOME: '/elsewhere',
      XDG_STATE_HOME: '/state',
      NATS_URL: 'nats://other',
      TZ: 'Asia/Tokyo',
    });
    expect(status).toBe(1);
    expect(stderr).toContain(': errors.md, metrics.md, old.md. Write it anew: npm run docs');
  },
);

it('the troubleshooting guide names codes that there are', async () => {
  const codes = errorCodes().map(({ code }) => code);
  const guide = await readFile(join(ROOT, 'docs/guides/troubleshooting.md'), 'utf8');
  const named = guide
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => line.split('|')[1]?.match(/\w+/g) ?? []);
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter((code) => !codes.includes(code))).toEqual([]);
});
