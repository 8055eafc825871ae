import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, output, printed, testBed, TOOLS } from './bed.ts';

const b = `${BUSYBOX} `;
const WAIT = `while :; do ${b}sleep 0.02; done`;

describeWith(TOOLS, 'the private folder of an oci sandbox', () => {
  it.each([
    ['', 0o755],
    [' in a state folder that only root may enter', 0o700],
  ])('shows its files to the program, which cannot change them%s', async (_, mode) => {
    await using outer = await testBed();
    const folder = join(outer.path, 'folder');
    await mkdir(folder, { mode });
    await using bed = await testBed({ stateDir: join(folder, 'state') });
    const { stdout, exit } = await bed.run(
      `${b}stat -c '%n %a %u' /run/nex /run/nex/key; ${b}cat /run/nex/key; echo;
       ${b}touch /run/nex/other 2>/dev/null || echo refused; ${b}chmod 600 /run/nex/key 2>/dev/null || echo refused
       ${b}rm -f /run/nex/key 2>/dev/null || echo refused; ${b}ls -A / /run`,
      { privateFolder: { path: '/run/nex', files: { key: 'secret 1' } } },
    );
    expect(stdout.split('\n')).toEqual([
      '/run/nex 500 1000',
      '/run/nex/key 400 1000',
      'secret 1',
      'refused',
      'refused',
      'refused',
      '/:',
      'dev',
      'etc',
      'nix',
      'proc',
      'run',
      'tmp',
      '',
      '/run:',
      'nex',
      '',
    ]);
    expect(exit).toEqual({ code: 0, outOfMemory: false });
  });

  it('is nobody else’s, and goes with the sandbox', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`echo ready; ${WAIT}`, {
      privateFolder: { path: '/run/nex', files: { key: 'secret' } },
    });
    await printed(sandbox, 'ready');
    const folder = join(bed.stateDir, sandbox.id, 'private');
    const [ofFolder, ofFile] = [await stat(folder), await stat(join(folder, 'key'))];
    expect([ofFolder.mode & 0o777, ofFile.mode & 0o777]).toEqual([0o500, 0o400]);
    expect(ofFolder.uid).toBeGreaterThan(65_536);
    expect(ofFile.uid).toBe(ofFolder.uid);
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
    expect(await readdir(bed.stateDir)).toEqual([]);
  });

  it('gets new files while the program runs, also from a process that adopted it', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(
      `${b}cat /run/nex/key; echo; until ${b}grep -q 3 /run/nex/key; do ${b}cat /run/nex/key; echo; ${b}sleep 0.02; done; ${b}ls /run/nex; echo done; ${WAIT}`,
      { privateFolder: { path: '/run/nex', files: { key: 'secret 1' } } },
    );
    await printed(sandbox, 'secret 1');
    expect(await sandbox.replaceFile('key', 'secret 2')).toBe(true);
    await printed(sandbox, 'secret 2');
    await sandbox[Symbol.asyncDispose]();
    const adopted = await bed.runtime.adopt(sandbox.record);
    expect(await adopted?.replaceFile('key', 'secret 3')).toBe(true);
    if (adopted === undefined) throw new Error('it is gone');
    await printed(adopted, 'done');
    const lines = (await output(adopted)).stdout.trimEnd().split('\n');
    expect([...new Set(lines)]).toEqual(['secret 1', 'secret 2', 'key', 'done']);
    await expect(adopted.replaceFile('../key', '')).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    await adopted.stop({ graceMs: 0 });
  });

  it('is there only where it was asked for', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(WAIT);
    await waitFor('the program', async () => (await sandbox.usage()) !== undefined);
    expect(await sandbox.replaceFile('key', 'x')).toBe(false);
    await sandbox.stop({ graceMs: 0 });
    const spec = bed.spec('', { privateFolder: { path: '/etc', files: {} } });
    await expect(bed.runtime.create(spec)).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
  });
});
