import { describeWith } from '@nex-nix/test-kit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { GuestConnection } from '../src/host/guest-connection.ts';
import { AGENT_TOOLS, BUSYBOX, command, finish, run, script, TestGuest } from './test-guest.ts';

describeWith(AGENT_TOOLS, 'commands beside the program of a guest', () => {
  let guest: TestGuest;
  let connection: GuestConnection;
  beforeEach(async () => {
    guest = await TestGuest.make();
    await guest.start();
    connection = await guest.connect();
    await connection.request(guest.prepareRequest({ privateFolder: { path: '/run/secrets', files: { a: 'old' } } }));
    await connection.request(script('sleep 1000'));
  });
  afterEach(async () => {
    await connection[Symbol.asyncDispose]();
    await guest[Symbol.asyncDispose]();
  });

  it('run with the rights of the program, several at once, and what they leave behind is killed', async () => {
    const both = await Promise.all([
      run(connection, command('id -u; echo $A; echo bad >/dev/stderr; exit 6', { environment: { A: 'b' } })),
      run(connection, command('setsid sleep 1000 & exit 7')),
    ]);
    expect(both).toEqual([
      { code: 6, output: '12345\nb\nbad\n' },
      { code: 7, output: '' },
    ]);
    const { output } = await run(connection, command('ps -o args | grep -c "^sleep"'));
    expect(output).toBe('1\n');
  });

  it('may print more than is told of', async () => {
    const { code, output } = await run(connection, command('yes | head -c 1000000; exit 2'));
    expect({ code, length: output.length }).toEqual({ code: 2, length: 4096 });
  });

  it('end when they are cancelled, or the program does', async () => {
    const cancelled = run(connection, command('sleep 1000'), { signal: AbortSignal.timeout(300) });
    await expect(cancelled).rejects.toThrow('timeout');
    const other = run(connection, command('sleep 1000'));
    const last = finish(connection);
    await run(connection, command('true'));
    await connection.request({ type: 'kill' });
    expect(await other).toEqual({ code: 137, output: '' });
    expect((await last).exit.signal).toBe('SIGKILL');
  });

  it('are refused when they are not there', async () => {
    const missing = run(connection, command('', { program: `${BUSYBOX}/bin/missing` }));
    await expect(missing).rejects.toMatchObject({ refusal: 'program-not-found' });
  });

  it('see files of the private folder as they are replaced, and cannot change them', async () => {
    const listing = await run(
      connection,
      command('cd /run/secrets; cat a; stat -c "%a %u" . a; echo x >b; chmod 700 .; rm a; mv a b'),
    );
    expect(listing.output).toContain('old500 12345\n400 12345\n');
    expect(listing.output.match(/Read-only file system/g)).toHaveLength(4);
    const replace = (name: string, content: string) => connection.request({ type: 'replace', name, content });
    expect(await replace('a', 'new')).toEqual({ replaced: true });
    expect(await replace('c', 'more')).toEqual({ replaced: true });
    expect(await run(connection, command('cd /run/secrets; cat a c; ls; stat -c "%a %u" c'))).toEqual({
      code: 0,
      output: 'newmorea\nc\n400 12345\n',
    });
  });

  it('count as what the program uses', async () => {
    await run(connection, command('i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'));
    const { cpuMicros } = await connection.request({ type: 'usage' });
    expect(cpuMicros).toBeGreaterThan(1000);
  });
});
