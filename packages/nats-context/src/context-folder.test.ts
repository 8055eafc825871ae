import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { listContexts, loadContext, saveContext, selectedContext } from './context-folder.ts';

it('saveContext() writes a private file that loadContext() reads back', async () => {
  await using dir = await tempDir();
  const configDir = join(dir.path, 'config');
  const file = await saveContext('Dev', { url: 'nats://h', creds: '~/a.creds' }, { configDir });
  await saveContext('Dev', { url: 'nats://h', creds: '~/b.creds' }, { configDir });
  expect(file).toBe(join(configDir, 'nats/context/Dev.json'));
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await stat(join(configDir, 'nats/context'))).mode & 0o777).toBe(0o700);
  expect(await readdir(join(configDir, 'nats/context'))).toEqual(['Dev.json']);
  expect(await loadContext('Dev', { configDir })).toMatchObject({
    name: 'Dev',
    creds: '~/b.creds',
    windows_cert_match: '',
  });
  expect(JSON.parse(await readFile(file, 'utf8'))).not.toHaveProperty('name');
});

it('loadContext() names the folder and lists the contexts there are', async () => {
  await using dir = await tempDir();
  const options = { configDir: dir.path };
  await expect(loadContext('Gone', options)).rejects.toMatchObject({
    code: 'CONTEXT_NOT_FOUND',
    kind: 'not-found',
    message: `Cannot find the context "Gone": there is none of that name in ${dir.path}/nats/context`,
    hint: 'nats context save Gone',
  });
  await saveContext('B', {}, options);
  await saveContext('A', {}, options);
  await writeFile(join(dir.path, 'nats/context/empty.json'), '');
  await mkdir(join(dir.path, 'nats/context/folder.json'));
  expect(await listContexts(options)).toEqual(['A', 'B']);
  await expect(loadContext('Gone', options)).rejects.toMatchObject({ hint: 'Use one of these contexts: A, B' });
  await expect(loadContext('../A', options)).rejects.toMatchObject({ code: 'CONTEXT_NAME_INVALID' });
});

it('selectedContext() trims, and knows when none is selected', async () => {
  await using dir = await tempDir();
  expect(await selectedContext({ configDir: dir.path })).toBeUndefined();
  await mkdir(join(dir.path, 'nats'));
  await writeFile(join(dir.path, 'nats/context.txt'), 'Dev\n');
  expect(await selectedContext({ configDir: dir.path })).toBe('Dev');
});
