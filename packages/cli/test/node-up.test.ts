import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeWith, startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { expectFailure } from './bed.ts';

const NEXLET = fileURLToPath(new URL('../../node/test/local-nexlet-process.ts', import.meta.url));
/** Keys of nobody. */
const SERVER = {
  key: 'NBV5EKKWQ2RZZZM5AO52FQBFKHZMZNXJRTO73VUZZWEDWHWK6HUJP3NZ',
  seed: 'SNAAGAKUR55S4GJDIZHRZ4BEDG24OXLYEKHXMFD2GCKW3K7SBTECYXWEAI',
};
const CURVE = {
  key: 'XA7WQ6YBQBIX7JHZGFSU2Z2EDX6VCVDVNIZKNRYWB6QR3JPXTVMFOHUO',
  seed: 'SXAMJLBV2UWZHI5T62N7WH4T2JCYO4N4IW746G3T3C37CQINK2HNIQZHKA',
};
const USER = {
  key: 'UDKDE7CQCQDDXWS5JBG6Q3TVKWW3MSPUZ4PHNNKNLQ4FA22CS5CVN73L',
  otherSeed: 'SUAMHO4T2IUKATQSTJ5T4XP6KOYR52WO2UBJU4H34MNU7DTSNECXQ4MQVY',
};
const ACCOUNT = {
  key: 'AAWP4WBDYVCO2VDVFUQ2ZYCFKFTNR6YMSPNNZ3NG7JDMNB67H4NBJCWD',
  seed: 'SAAMUL7PNA6OK7PDKDZV7RL5FMEKKQ43TQ4UQVGSIXGJPSWWG4JMAJXVXA',
};
/** Nobody listens there. */
const DEAD = 'nats://127.0.0.1:1';

describeWith(['nats-server', 'crun'], 'nex node up', () => {
  let folder: TempDir;
  let server: TestNatsServer;

  beforeAll(async () => {
    folder = await tempDir('nex-up-');
    server = await startNatsServer();
  });

  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  /** A configuration file with a nexlet that runs as a process and behaves as `mode` says. */
  async function configWith(mode: string): Promise<string> {
    const file = join(folder.path, `${mode}.json`);
    const argv = ['--conditions=nexsrc', NEXLET, mode];
    const agents = [{ uri: `file://${process.execPath}`, argv, env: {} }];
    await writeFile(file, JSON.stringify({ nexus: 'lab', agents }));
    return file;
  }

  it("takes Go's flags and configuration file, with their meaning", async () => {
    const servers = `${server.url},${DEAD}`;
    const global = ['-s', servers, '--json', '--config', await configWith('well')];
    // Go takes seeds alone; systemd hands out files.
    const seedFile = join(folder.path, 'server.nk');
    await writeFile(seedFile, `${SERVER.seed}\n`, { mode: 0o600 });
    const identity = ['--node-name', 'n1', '--node-seed', seedFile, '--node-xkey-seed', CURVE.seed];
    const kept = ['--state-dir', join(folder.path, 'one'), '--state', 'kv', '--events', 'nats', '--retain'];
    const work = ['--max-workloads', '3', '--auction-ttl', '5s', '--agent-restart-limit', '1', '--show-workload-logs'];
    const remote = ['--allow-remote-agent-registration', '--tags', 'region=lab;zone=a'];
    const idle = ['--disable-native-start', '--resource-directory', folder.path];
    await using node = startNex([...global, 'node', 'up', ...identity, ...kept, ...work, ...remote, ...idle]);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
    const nc = await server.connect();
    const ask = async (subject: string, body: object) => (await nc.request(subject, JSON.stringify(body))).json();
    expect(await ask('$NEX.SVC.system.control.PING', { filter: null })).toMatchObject({
      node_id: SERVER.key,
      xkey: CURVE.key,
      agent_count: 2,
      state: 'running',
      tags: { region: 'lab', zone: 'a', 'nex.nexus': 'lab', 'nex.node': 'n1' },
    });
    expect(await ask('$NEX.SVC.lab.agent.RREGISTER', {})).toMatchObject({
      respond_to: SERVER.key,
      registration_creds: { nats_servers: [server.url, DEAD] },
    });
    const offer = { agent_type: 'local', auction_id: 'a', tags: {} };
    expect(await ask('$NEX.SVC.default.control.AUCTION', offer)).toMatchObject({ node_name: 'n1' });
    expect(await ask('$JS.API.STREAM.INFO.NEX_FEED', {})).not.toHaveProperty('error');
    node.kill('SIGTERM');
    expect(await node.exited).toMatchObject({ code: 0 });
  });

  it('ends at once at a second signal, its processes too', async () => {
    const global = ['-s', server.url, '--json', '--config', await configWith('stubborn')];
    await using node = startNex([...global, 'node', 'up', '--state-dir', join(folder.path, 'two'), '--state', 'none']);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
    const lines = node.output().split('\n');
    // The log has a "pid" of its own in each line: that of the node.
    const line = lines.find((text) => text.includes('"msg":"local nexlet started"')) ?? '';
    const nexlet = Number(/"pid":(\d+)(?!.*"pid")/.exec(line)?.[1]);
    expect(isAlive(nexlet)).toBe(true);
    expect(nexlet).not.toBe(node.pid);
    node.kill('SIGINT');
    await waitFor('it to be ending', () => node.output().includes('nex node stopping'));
    const second = Date.now();
    node.kill('SIGINT');
    expect(await node.exited).toMatchObject({ code: 130 });
    expect(Date.now() - second).toBeLessThan(3_000);
    await waitFor('its nexlet to be gone', () => !isAlive(nexlet));
  });

  it.each([
    [['--inats-config', 'x'], /nodes of this project have no NATS server inside\nhint: .*nex dev/],
    [['--issuer-nkey', 'UX'], /--issuer-nkey and --issuer-nkey-seed come together/],
    [['--issuer-signing-key', 'SAX'], /come together/],
    [['--workload-publish', 'a.>'], /--workload-publish: this node mints no credentials/],
    [['--max-workloads', '-1'], /Cannot take "-1" for a number/],
    [['--tags', 'nex.os=plan9'], /can not use reserved tag prefix: nex\./],
    [['--node-seed', 'SNX'], /it is not one of a server key/],
  ])('refuses %j', async (options, message) => {
    const stateDir = ['--state-dir', join(folder.path, 'refused')];
    expectFailure(await runNex(['-s', server.url, 'node', 'up', ...stateDir, ...options]), 2, message);
  });

  it('refuses keys that do not belong together, and nexlets that are none', async () => {
    const up = ['-s', server.url, 'node', 'up', '--state-dir', join(folder.path, 'refused')];
    const nkey = ['--issuer-nkey', USER.key, '--issuer-nkey-seed', USER.otherSeed];
    expectFailure(await runNex([...up, ...nkey]), 2, /the seed is not that of this user/);
    const signing = ['--issuer-signing-key', ACCOUNT.seed, '--issuer-signing-key-root-account'];
    const both = [...nkey, ...signing, ACCOUNT.key];
    expectFailure(await runNex([...up, ...both]), 2, /with a signing key and with an nkey: choose one/);
    const file = join(folder.path, 'bad.json');
    for (const [agents, message] of [
      ['/bin/true', /the key "agents" of ".*": it is no list/],
      [[{ argv: [] }], /entry 1 of the key "agents" .*"uri" must be/],
      [[{ uri: '/nowhere/nexlet' }], /Cannot run the nexlet "\/nowhere\/nexlet": there is no such file/],
    ] as const) {
      await writeFile(file, JSON.stringify({ nexus: 'nexus', agents }));
      expectFailure(await runNex(['--config', file, ...up]), 2, message);
    }
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
