import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { type NatsTarget, resolveTarget } from './connect-nats.ts';
import { saveContext } from './context-folder.ts';

it('resolveTarget() takes each of server and credentials from the first source that has it', async () => {
  await using dir = await tempDir();
  const configDir = dir.path;
  const resolve = async (
    target: { context?: string; servers?: string; creds?: string },
    env: NodeJS.ProcessEnv = {},
  ) => {
    const { url, creds, user } = await resolveTarget({ ...target, configDir, env });
    return `${user}|${creds}|${url}`;
  };
  expect(await resolve({})).toBe('||');
  await saveContext('Named', { url: 'nats://named', creds: '/named' }, { configDir });
  await saveContext('Env', { url: 'nats://env-context', user: 'env' }, { configDir });
  await saveContext('Selected', { url: 'nats://selected', creds: '/selected' }, { configDir });
  await writeFile(join(configDir, 'nats/context.txt'), 'Selected');

  expect(await resolve({})).toBe('|/selected|nats://selected');
  expect(await resolve({}, { NATS_CONTEXT: 'Env' })).toBe('env||nats://env-context');
  const env = { NATS_CONTEXT: 'Env', NATS_URL: 'nats://env', NATS_CREDS: '/env' };
  expect(await resolve({}, env)).toBe('|/env|nats://env');
  expect(await resolve({}, { NATS_URL: 'nats://u:p@env' })).toBe('||nats://u:p@env');
  expect(await resolve({ context: 'Named' }, env)).toBe('|/named|nats://named');
  expect(await resolve({ context: 'Named', servers: 'nats://flag' }, env)).toBe('|/named|nats://flag');
  expect(await resolve({ servers: 'nats://flag', creds: '/flag' }, env)).toBe('|/flag|nats://flag');
});

it('resolveTarget() does not pass over a selected context that is gone', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'nats'));
  await writeFile(join(dir.path, 'nats/context.txt'), 'Gone');
  await expect(resolveTarget({ configDir: dir.path, env: {} })).rejects.toMatchObject({ code: 'CONTEXT_NOT_FOUND' });
});

it('resolveTarget() takes what a configuration file says before the environment, and after what it is told', async () => {
  await using dir = await tempDir();
  const configDir = dir.path;
  await saveContext('Named', { url: 'nats://named', creds: '/named', tls_first: true }, { configDir });
  const env = { NATS_URL: 'nats://env', NATS_USER: 'env', NATS_PASSWORD: 'p', NATS_CA: '/ca' };
  const resolve = (target: NatsTarget) => resolveTarget({ configDir, env, ...target });
  expect(await resolve({})).toMatchObject({ url: 'nats://env', user: 'env', ca: '/ca' });
  expect(await resolve({ configured: { servers: 'nats://file' } })).toMatchObject({ url: 'nats://file', user: 'env' });
  const configured = { context: 'Named', servers: 'nats://file' };
  expect(await resolve({ configured })).toMatchObject({ url: 'nats://file', creds: '/named', user: '', ca: '' });
  const told = { servers: 'nats://told', jwt: 'eyJ', seed: 'SU', tlsCert: '/cert', jetstreamDomain: 'hub' };
  expect(await resolve({ configured, ...told })).toMatchObject({
    url: 'nats://told',
    creds: '',
    user_jwt: 'eyJ',
    user_seed: 'SU',
    cert: '/cert',
    tls_first: true,
    jetstream_domain: 'hub',
  });
  expect(await resolve({ user: 'only' })).toMatchObject({ user: '', token: 'only' });
  expect(await resolve({ seed: '/file' })).toMatchObject({ nkey: '/file', user: '' });
});
