import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { BUSYBOX, output, printed } from './bed.ts';
import { microvmBed, TIMEOUT, TOOLS } from './microvm-bed.ts';

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

const sh = (script: string) => ({ program: BUSYBOX, argv: ['sh', '-c', script] });

describeWith(TOOLS, 'further commands and files of a microvm sandbox', () => {
  let bed: Awaited<ReturnType<typeof microvmBed>>;
  beforeAll(async () => (bed = await microvmBed({ poolSize: 0 })));
  afterAll(() => bed[Symbol.asyncDispose]());

  it('runs commands beside the program, also from a process that adopted it, and kills what they leave', async () => {
    const started = await bed.start('echo kept >/tmp/file; echo ready; sleep 100', {
      environment: { PATH: '/bin', OWN: 'program' },
    });
    await printed(started, 'ready');
    const script = 'cat /tmp/file; id -u; echo $OWN $ADDED; echo err >&2; (sleep 50 &); exit 3';
    const wanted = { code: 3, output: 'kept\n1000\nprogram command\nerr\n' };
    expect(await started.exec({ ...sh(script), environment: { ADDED: 'command' } })).toEqual(wanted);
    await started[Symbol.asyncDispose]();
    const sandbox = await bed.runtime.adopt(started.record);
    if (sandbox === undefined) throw new Error('it is gone');
    expect(await sandbox.exec({ ...sh(script), environment: { ADDED: 'command' } })).toEqual(wanted);
    expect((await sandbox.exec(sh('ps | grep -c "sleep 5[0]"'))).output).toBe('0\n');
    expect((await sandbox.exec(sh('yes | head -c 100000'))).output).toHaveLength(4096);

    await expect(sandbox.exec({ program: '/missing', argv: [] })).rejects.toMatchObject({
      code: 'SANDBOX_EXEC_FAILED',
      message: expect.stringMatching(/^Cannot run "\/missing" in the sandbox/) as string,
    });
    await expect(sandbox.exec({ program: 'relative', argv: [] })).rejects.toMatchObject({
      code: 'SANDBOX_SPEC_INVALID',
    });

    const controller = new AbortController();
    const aborted = expect(sandbox.exec({ ...sh('sleep 60'), signal: controller.signal })).rejects.toThrow('enough');
    controller.abort(new Error('enough'));
    await aborted;
    expect((await sandbox.exec(sh('ps | grep -c "sleep 6[0]"'))).output).toBe('0\n');

    const ended = sandbox.exec(sh('sleep 70'));
    await sandbox.stop({ graceMs: 0 });
    expect((await ended).code).toBe(137);
    await expect(sandbox.exec(sh('true'))).rejects.toMatchObject({ code: 'SANDBOX_EXEC_FAILED' });
    await sandbox.remove();
  });

  it('shows a private folder to the program alone, and replaces its files', async () => {
    const sandbox = await bed.start(
      `stat -c '%n %a %u' /run/nex /run/nex/key; cat /run/nex/key; echo
       touch /run/nex/other 2>/dev/null || echo refused
       until grep -q 2 /run/nex/key; do sleep 0.05; done; cat /run/nex/key; echo; ls /run/nex; echo done; sleep 100`,
      { privateFolder: { path: '/run/nex', files: { key: 'secret 1' } } },
    );
    await printed(sandbox, 'refused');
    expect(await sandbox.replaceFile('key', 'secret 2')).toBe(true);
    await printed(sandbox, 'done');
    expect((await output(sandbox)).stdout.trimEnd().split('\n')).toEqual([
      '/run/nex 500 1000',
      '/run/nex/key 400 1000',
      'secret 1',
      'refused',
      'secret 2',
      'key',
      'done',
    ]);
    await expect(sandbox.replaceFile('../key', '')).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
    const without = await bed.start('sleep 100');
    expect(await without.replaceFile('key', 'x')).toBe(false);
    await without.stop({ graceMs: 0 });
    await without.remove();
  });
});
