import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { checkProgram } from './closure.ts';

const A = '/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a';
const B = '/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b';

async function store() {
  const dir = await tempDir();
  const a = join(dir.path, 'elsewhere-a');
  const b = join(dir.path, 'elsewhere-b');
  await mkdir(join(a, 'bin'), { recursive: true });
  await mkdir(b);
  await writeFile(join(b, 'tool'), '#!x', { mode: 0o555 });
  await writeFile(join(a, 'text'), 'x', { mode: 0o444 });
  await chmod(join(b, 'tool'), 0o555);
  const link = (name: string, target: string) => symlink(target, join(a, 'bin', name));
  await link('tool', `${B}/tool`);
  await link('relative', `../../${B.slice('/nix/store/'.length)}/tool`);
  await link('text', '../text');
  await link('host', '/bin/sh');
  await link('outside', '/nix/store/cccccccccccccccccccccccccccccccc-c/bin/sh');
  await link('climb', '../../../../../../bin/sh');
  await link('loop', 'loop');
  await link('back', '../bin/../..');
  const closure = [
    { storePath: A, source: a },
    { storePath: B, source: b },
  ];
  return {
    check: async (program: string) => checkProgram({ program, closure }),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

describe('checkProgram()', () => {
  it('follows links as the sandbox will, from one store path to the other', async () => {
    await using s = await store();
    await expect(s.check(`${B}/tool`)).resolves.toBeUndefined();
    await expect(s.check(`${A}/bin/tool`)).resolves.toBeUndefined();
    await expect(s.check(`${A}/bin/relative`)).resolves.toBeUndefined();
  });

  it.each([
    ['a missing file', 'bin/nope', /"[^"]+\/bin\/nope": it does not exist in the closure$/],
    ['something below a file', 'text/x', /does not exist/],
    ['a link to this machine', 'bin/host', /it leads to "\/bin"/],
    ['a link to another store path', 'bin/outside', /leads to "\/nix\/store\/c+-c"/],
    ['a link that climbs out', 'bin/climb', /leads to "\/bin"/],
    ['a link to itself', 'bin/loop', /does not exist/],
    ['a link to the store', 'bin/back', /leads to "\/nix\/store"/],
  ])('does not find %s', async (_, path, message) => {
    await using s = await store();
    await expect(s.check(`${A}/${path}`)).rejects.toMatchObject({
      code: 'SANDBOX_PROGRAM_NOT_FOUND',
      kind: 'not-found',
      message: expect.stringMatching(message) as string,
    });
  });

  it.each([
    ['a file without the right', 'bin/text', /not executable$/],
    ['a folder', 'bin', /not a file$/],
  ])('does not execute %s', async (_, path, message) => {
    await using s = await store();
    await expect(s.check(`${A}/${path}`)).rejects.toMatchObject({
      code: 'SANDBOX_PROGRAM_NOT_EXECUTABLE',
      message: expect.stringMatching(message) as string,
    });
  });
});
