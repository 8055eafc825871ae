import { appendFile, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { BoundedFile } from './bounded-file.ts';

describe('a file that is kept small', () => {
  it('is emptied when it is too long; its end is kept', async () => {
    await using dir = await tempDir('nex-bounded-');
    const path = join(dir.path, 'console');
    using file = new BoundedFile(path);
    expect(await file.tail(), 'before there is one').toBe('');
    await file.shorten();
    await appendFile(path, 'first\n');
    await file.shorten();
    expect(await file.tail()).toBe('first\n');
    await appendFile(path, `${'x'.repeat(2 << 20)}last\n`);
    await file.shorten();
    expect((await stat(path)).size).toBe(0);
    expect((await file.tail()).endsWith('xlast\n')).toBe(true);
    await appendFile(path, 'afterwards\n');
    expect((await file.tail()).endsWith('xlast\nafterwards\n')).toBe(true);
    expect((await file.tail()).length).toBe(8192);
  });

  it('is read as what was written, also when its writer does not append', async () => {
    await using dir = await tempDir('nex-bounded-');
    const path = join(dir.path, 'log');
    using file = new BoundedFile(path);
    await using writer = await open(path, 'w');
    await writer.write(`${'x'.repeat(2 << 20)}last\n`);
    await file.shorten();
    await writer.write('afterwards\n');
    expect((await stat(path)).blocks * 512).toBeLessThan(1 << 20);
    expect((await file.tail()).endsWith('xlast\nafterwards\n')).toBe(true);
    await file.shorten();
    expect((await file.tail()).endsWith('afterwards\n'), 'a hole is no reason').toBe(true);
  });
});
