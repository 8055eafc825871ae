import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { MachineFacts } from './machine-facts.ts';

describe('MachineFacts', () => {
  it('finds each fact out once, whoever asks and when', async () => {
    await using dir = await tempDir('nex-facts-');
    const facts = new MachineFacts(join(dir.path, 'made'));
    let found = 0;
    const find = async () => ({ answer: ++found });
    const both = await Promise.all([facts.get('one', find), facts.get('one', find)]);
    expect(both).toEqual([{ answer: 1 }, { answer: 1 }]);
    expect(await facts.get('another', find)).toEqual({ answer: 2 });
    expect(await new MachineFacts(join(dir.path, 'made')).get('one', find)).toEqual({ answer: 1 });
    expect(await readdir(join(dir.path, 'made'))).toHaveLength(1);
  });

  it('forgets when the machine was started again, and does not mind a file that was cut short', async () => {
    await using dir = await tempDir('nex-facts-');
    const facts = new MachineFacts(dir.path);
    await facts.get('one', async () => 1);
    const file = join(dir.path, 'qemu-machine.json');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/"bootId":"[^"]*"/, '"bootId":"another"'));
    expect(await facts.get('one', async () => 2)).toBe(2);
    await writeFile(file, text.slice(0, 20));
    expect(await facts.get('one', async () => 3)).toBe(3);
  });

  it('asks again when it could not be found out', async () => {
    await using dir = await tempDir('nex-facts-');
    const facts = new MachineFacts(dir.path);
    await expect(facts.get('one', async () => Promise.reject(new Error('not now')))).rejects.toThrow('not now');
    expect(await facts.get('one', async () => 1)).toBe(1);
  });
});
