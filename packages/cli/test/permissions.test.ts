import { join } from 'node:path';
import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runNex } from '../../../test/e2e/nex.ts';
import { type CacheBed, startCacheBed, writeFiles } from './bed.ts';

vi.setConfig({ testTimeout: 90_000 });

/** What docs/guides/cache.md gives each of them. */
const READ = ['$NIXCACHE.read.>', '$JS.API.DIRECT.GET.NIX_CHUNKS.>', '$JS.API.STREAM.MSG.GET.NIX_CHUNKS'];
const WRITE = ['$NIXCACHE.write.>', 'nixc.>'];
const USERS = {
  reader: READ,
  publisher: [...READ, ...WRITE],
  deployer: [...READ, ...WRITE, '$NIXCACHE.pin.>'],
  caretaker: [...READ, '$NIXCACHE.care.>'],
};

const REFUSED = 4;

describeWith(['nats-server'], 'the permissions of NATS decide who may', () => {
  let bed: CacheBed;
  let path: string;

  beforeAll(async () => {
    const users = Object.entries(USERS).map(
      ([user, subjects]) =>
        `{ user: ${user}, password: p, permissions { publish: ${JSON.stringify(subjects)}, subscribe: "_INBOX.>" } }`,
    );
    const admin = '{ user: admin, password: p }';
    bed = await startCacheBed(`authorization { users [${[admin, ...users].join(', ')}] }\nno_auth_user: admin`);
    path = await bed.push('shared', { a: 'shared' });
    await bed.json('cache', 'pin', 'shared', path);
    await writeFiles(join(bed.folder, 'more'), { a: 'more' });
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const as = async (user: keyof typeof USERS, ...args: string[]) => {
    const url = bed.server.url.replace('nats://', `nats://${user}:p@`);
    const { code, stderr } = await runNex(['-s', url, 'cache', ...args]);
    return { code, stderr };
  };
  const DONE = { code: 0, stderr: '' };

  it('read', async () => {
    const to = join(bed.folder, 'pulled');
    expect(await as('reader', 'pull', 'cache:shared', '--to', to, '--trust-cache')).toEqual(DONE);
    for (const command of [['info'], ['info', path], ['ls'], ['ls', path], ['pins'], ['verify']]) {
      expect(await as('reader', ...command), command.join(' ')).toEqual(DONE);
    }
  });

  it('write', async () => {
    const push = ['push', join(bed.folder, 'more')];
    expect(await as('reader', ...push)).toMatchObject({ code: REFUSED });
    expect(await as('publisher', ...push)).toEqual(DONE);
  });

  it('pin', async () => {
    for (const command of [
      ['pin', 'other', path],
      ['unpin', 'shared'],
    ]) {
      expect(await as('publisher', ...command)).toMatchObject({ code: REFUSED });
    }
    expect(await as('deployer', 'pin', 'other', path)).toEqual(DONE);
    expect(await as('deployer', 'unpin', 'other')).toEqual(DONE);
  });

  it('remove and collect', async () => {
    for (const command of [['gc'], ['rm', '--force', path]]) {
      expect(await as('deployer', ...command)).toMatchObject({ code: REFUSED });
      expect(await as('caretaker', ...command)).toMatchObject({ code: 0 });
    }
  });
});
