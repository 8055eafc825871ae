import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { LogBookmarkFile, readLogBookmark } from './log-bookmark.ts';

describe('LogBookmarkFile', () => {
  it('is read as it was written last, whatever was there before', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'w.bookmark');
    for (const run of ['0a9f9b0e-7f8e-4a3f-9f5e-0123456789ab', 'r-2']) {
      using bookmark = new LogBookmarkFile(file, run);
      for (const stdout of [2 ** 50, 7]) {
        const position = { stdout, stderr: 3 };
        bookmark.write(position);
        expect(await readLogBookmark(file)).toEqual({ run, position });
      }
    }
  });

  it.each(['', 'r 1 2', 'r 1\n', 'r 1 2\nr 3 4\n', '../r 1 2\n', 'r -1 2\n'])('%j is no bookmark', async (text) => {
    await using dir = await tempDir();
    const file = join(dir.path, 'w.bookmark');
    expect(await readLogBookmark(file)).toBeUndefined();
    await writeFile(file, text);
    expect(await readLogBookmark(file)).toBeUndefined();
  });

  it('says so when it cannot be written', async () => {
    await using dir = await tempDir();
    const file = join(dir.path, 'w.bookmark');
    await mkdir(file);
    using bookmark = new LogBookmarkFile(file, 'r');
    expect(() => bookmark.write({ stdout: 1, stderr: 1 })).toThrow('EISDIR');
  });
});
