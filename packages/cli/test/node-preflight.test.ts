import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, findTool, startNatsServer, type TempDir, tempDir, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runNex } from '../../../test/e2e/nex.ts';

interface Report {
  ready: boolean;
  groups: { title: string; searched: string[]; items: { name: string; met: boolean; detail: string }[] }[];
}

describeWith(['nats-server', 'crun', 'ip', 'iptables', 'portmap'], 'nex node preflight', () => {
  let folder: TempDir;
  let server: TestNatsServer;

  beforeAll(async () => {
    folder = await tempDir('nex-preflight-test-');
    server = await startNatsServer();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  const preflight = (...args: string[]) => runNex(['-s', server.url, 'node', 'preflight', ...args]);

  it('runs a program in a sandbox, and shows what was searched and found as Nex 0.1 did', async () => {
    const { code, stdout, stderr } = await preflight('--check', '--state-dir', folder.path);
    expect(stdout).toContain('✅ This machine is ready');
    expect(stderr).toMatch(
      /^Validating - Required CNI Plugins\n\t🔎 Searching - \/\S+\n\t {2}✅ Dependency Satisfied - \/\S+\/bridge \[bridge CNI plugin\]$/m,
    );
    expect(stderr).toMatch(/started and ended in \d+ ms \[a program runs in oci\]/);
    expect(stderr).toMatch(/nats-server 2\.\S+ \[NATS server\]/);
    expect(code).toBe(0);
  });

  it('tells by its exit code, and for programs, what keeps a node from starting', async () => {
    // A machine with everything but crun.
    const bin = join(folder.path, 'bin');
    await mkdir(bin);
    for (const tool of ['unshare', 'sh', 'mount', 'umount']) await symlink(findTool(tool) ?? '', join(bin, tool));
    const args = ['-s', 'nats://127.0.0.1:1', '--json', 'node', 'preflight', '--check', '--cni-path', folder.path];
    const { code, stdout } = await runNex(args, { PATH: bin });
    const { ready, groups } = JSON.parse(stdout) as Report;
    expect({ code, ready }).toEqual({ code: 1, ready: false });
    const item = (name: string) => groups.flatMap(({ items }) => items).find((one) => one.name === name);
    expect(groups.find(({ title }) => title === 'Required CNI Plugins')?.searched).toEqual([folder.path]);
    expect(item('portmap CNI plugin')).toMatchObject({ met: false });
    expect(item('namespaces')).toMatchObject({ met: true, detail: join(bin, 'unshare') });
    expect(item('NATS server')).toMatchObject({ met: false, detail: expect.stringContaining('127.0.0.1:1') as string });
  });

  it('offers to build a guest image where there is none, and nothing in the place of what is no guest image', async () => {
    const look = async (guestImage: string) => {
      const args = ['--check', '--state-dir', folder.path, '--guest-image', guestImage];
      const { code, stdout } = await runNex(['-s', server.url, '--json', 'node', 'preflight', ...args]);
      const { groups } = JSON.parse(stdout) as Report;
      const [item] = groups.find(({ title }) => title === 'Guest image')?.items ?? [];
      return { code, ...item };
    };
    const absent = join(folder.path, 'guest');
    expect(await look(absent)).toMatchObject({
      code: 1,
      met: false,
      detail: expect.stringContaining('there is no guest.json in it') as string,
      remedy: `nex guest build --output ${absent}`,
    });
    expect(await look(folder.path)).not.toHaveProperty('remedy');
  });

  it('finds a port taken, and asks nothing where nobody can answer', async () => {
    const port = new URL(server.url).port;
    const { code, stderr } = await preflight('--metrics-port', port);
    expect(stderr).toContain(`⛔ Dependency Missing - port ${port}: cannot be listened on`);
    expect(stderr).not.toContain('do you want to install');
    expect(code).toBe(1);
  });
});
