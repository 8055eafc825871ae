import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseStorePath, type StorePath } from '@nex-nix/nix';
import { type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findProgram } from './program.ts';

const path = (letter: string, name: string): StorePath => parseStorePath(`/nix/store/${letter.repeat(32)}-${name}`);

describe('findProgram()', () => {
  const app = path('a', 'echo-service-1.2');
  const other = path('b', 'other-2');
  let folder: TempDir;
  const realPath = (storePath: StorePath): string => join(folder.path, storePath);
  const find = (program?: string, closure = [app, other]) =>
    findProgram({ realPath }, { storePath: app, program, closure });
  const executable = (storePath: StorePath, name: string) =>
    writeFile(join(realPath(storePath), name), '', { mode: 0o755 });

  beforeEach(async () => {
    folder = await tempDir();
    await mkdir(join(realPath(app), 'bin'), { recursive: true });
    await mkdir(join(realPath(other), 'bin'), { recursive: true });
  });
  afterEach(() => folder[Symbol.asyncDispose]());

  it('chooses the only executable in bin/', async () => {
    await executable(app, 'bin/whatever');
    await writeFile(join(realPath(app), 'bin/notes.txt'), '');
    expect(await find()).toBe(`${app}/bin/whatever`);
  });

  it('of several, chooses the one named as the store path without its version', async () => {
    await executable(app, 'bin/echo');
    await executable(app, 'bin/echo-service');
    expect(await find()).toBe(`${app}/bin/echo-service`);
  });

  it('follows links into other paths of the closure', async () => {
    await executable(other, 'bin/real');
    await symlink(`${other}/bin`, join(realPath(other), 'link'));
    await symlink(`${other}/link/real`, join(realPath(app), 'bin/linked'));
    expect(await find()).toBe(`${app}/bin/linked`);
  });

  it('does not follow a link out of the closure, nor round in circles', async () => {
    await executable(other, 'bin/real');
    await symlink(`${other}/bin/real`, join(realPath(app), 'bin/out'));
    await symlink('/bin/sh', join(realPath(app), 'bin/host'));
    await symlink('../../../../bin/sh', join(realPath(app), 'bin/up'));
    await symlink('loop', join(realPath(app), 'bin/loop'));
    for (const program of ['bin/out', 'bin/host', 'bin/up', 'bin/loop']) {
      await expect(find(program, [app])).rejects.toMatchObject({ code: 'NIX_NEXLET_PROGRAM_NOT_FOUND' });
    }
  });

  it('refuses a program whose interpreter is not in the closure', async () => {
    const script = (interpreter: string) => `#! ${interpreter} -e\necho hello\n`;
    const write = (content: string | Buffer) => writeFile(join(realPath(app), 'bin/app'), content, { mode: 0o755 });
    await executable(other, 'bin/sh');
    await write(script(`${other}/bin/sh`));
    expect(await find()).toBe(`${app}/bin/app`);
    await expect(find(undefined, [app])).rejects.toMatchObject({ code: 'NIX_NEXLET_INTERPRETER_MISSING' });
    await write(script('/bin/sh'));
    await expect(find()).rejects.toMatchObject({
      message: `Cannot run "bin/app" of "${app}": it needs "/bin/sh", which is not in its closure`,
      hint: expect.stringContaining('CGO_ENABLED=0'),
    });
    // This machine's own shell: an ELF executable with a dynamic loader of the machine.
    await write(await readFile('/bin/sh'));
    await expect(find()).rejects.toMatchObject({ message: expect.stringMatching(/it needs "\/lib.*ld-linux.*"/) });
  });

  it('says which programs there are when the named one is not there', async () => {
    await executable(app, 'bin/one');
    await executable(app, 'bin/two');
    await expect(find('bin/three')).rejects.toMatchObject({
      message: `Cannot run "${app}": "bin/three" is not an executable file in it`,
      hint: 'Name one of its programs: bin/one, bin/two',
    });
  });

  it('does not take a folder or a plain file for a program', async () => {
    await writeFile(join(realPath(app), 'bin/data'), '');
    await expect(find('bin/data')).rejects.toThrow('is not an executable file');
    await expect(find('bin')).rejects.toThrow('is not an executable file');
    await expect(find()).rejects.toThrow('it has no executable file in bin/');
  });
});
