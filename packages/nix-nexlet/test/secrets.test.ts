import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@nex-nix/nexlet';
import type { Minter } from '@nex-nix/node';
import {
  controlSubjects,
  createXKey,
  type EncryptedEnvironment,
  natsConnectionData,
  openEnvironment,
  requestOne,
  sealEnvironment,
  StartWorkloadRequest,
} from '@nex-nix/protocol';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Feed, type Network, openNode, startNetwork, sweep, TOOLS, User } from './bed.ts';

const SECRET = 'correct-horse-battery-staple';
const WAIT = 'while :; do sleep 0.05; done';

describeWith(TOOLS, 'secrets of a workload', () => {
  let network: Network;
  let user: User;
  let feed: Feed;
  let stateDir: string;
  let count = 0;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());
  beforeEach(async () => {
    stateDir = join(network.dir.path, `node-${++count}`);
    feed = await Feed.open(network.nc, 'default');
  });
  afterEach(async () => {
    await feed[Symbol.asyncDispose]();
    await sweep(stateDir);
  });

  const open = (more: Partial<Parameters<typeof openNode>[0]> = {}) =>
    openNode({ nc: network.nc, key: network.key, stateDir, ...more });

  const cloneFor = async (id: string, target: string) => {
    const body = JSON.stringify({ namespace: 'default', new_target_xkey: target });
    const subject = controlSubjects.clone('default', id);
    return (await requestOne(network.nc, subject, body, { timeout: 2_000 })).reply;
  };
  const sealedIn = (data: Uint8Array): EncryptedEnvironment => {
    const { run_request: text } = StartWorkloadRequest.decode(data, 'clone');
    return (JSON.parse(text) as { encrypted_environment: EncryptedEnvironment }).encrypted_environment;
  };

  it('reach it, also after its node was restarted, and are nowhere else in clear', async () => {
    const wire: string[] = [];
    const eavesdropper = await network.server.connect();
    eavesdropper.subscribe('>', {
      callback: (_error, msg) => {
        wire.push(`${msg.subject} ${Buffer.from(msg.data).toString('latin1')}`);
      },
    });
    await eavesdropper.flush();
    const said: string[] = [];
    const note = (fields: object, text: string) => said.push(`${text} ${inspect(fields)}`);
    const logger: Logger = { debug: note, info: note, warn: note, error: note, child: () => logger };
    const script = `echo "length \${#TOKEN} $PLAIN"; ${WAIT}`;
    const environment = { TOKEN: SECRET, PLAIN: 'sealed wins' };
    let id: string;
    {
      await using _node = await open({ logger });
      id = await user.start(script, { environment: { PLAIN: 'plain' } }, 'service', environment);
      await feed.line(id, `length ${SECRET.length} sealed wins`);
      await user.find(id);
      await cloneFor(id, '');
      await waitFor('its start to be over', async () => (await filesWith(stateDir, SECRET)).length === 0);
      expect(await commandsWith(SECRET)).toEqual([]);
    }
    await using _node = await open({ logger });
    await waitFor('its second run', () => feed.printed(id).length === 2);
    expect(feed.printed(id)).toEqual(Array(2).fill(`length ${SECRET.length} sealed wins`));
    await waitFor('its start to be over', async () => (await filesWith(stateDir, SECRET)).length === 0);
    await eavesdropper.flush();
    expect(wire.some((message) => message.startsWith('$KV.nex-'))).toBe(true);
    expect(wire.length).toBeGreaterThan(20);
    expect(said.length).toBeGreaterThan(5);
    for (const text of [...wire, ...said]) for (const form of formsOf(SECRET)) expect(text).not.toContain(form);
    expect((await stat(join(stateDir, 'nexlet-xkey'))).mode & 0o777).toBe(0o600);
  });

  it('are sealed again for whoever clones it, and for nobody else', async () => {
    await using _node = await open();
    const id = await user.start(WAIT, {}, 'service', { TOKEN: SECRET });
    const [cloner, other] = [createXKey(), createXKey()];
    const reply = await cloneFor(id, cloner.getPublicKey());
    const sealed = sealedIn(reply?.data ?? new Uint8Array());
    expect(openEnvironment(sealed, cloner)).toEqual({ TOKEN: SECRET });
    expect(() => openEnvironment(sealed, other)).toThrow('not sealed for the key');
    expect(reply?.string()).not.toContain(SECRET);
    const kept = sealedIn((await cloneFor(id, ''))?.data ?? new Uint8Array());
    expect(() => openEnvironment(kept, cloner)).toThrow('not sealed for the key');
  });

  it('that are sealed for somebody else, or are no environment, are refused without telling them', async () => {
    await using _node = await open();
    const [sender, other] = [createXKey(), createXKey()];
    const sealed = sealEnvironment({ TOKEN: SECRET }, { sender, recipient: other.getPublicKey() });
    const refused = user.start(WAIT, { encrypted_environment: sealed });
    await expect(refused).rejects.toThrow(/encrypted_environment cannot be opened with the key of this nexlet/);
    await expect(user.start(WAIT, {}, 'service', { NEX_NAMESPACE: SECRET })).rejects.toThrow(
      /^Cannot run this start request: encrypted_environment "NEX_NAMESPACE" is set by the node; [^:]*$/,
    );
    expect((await user.client.listWorkloads({ expected: 1 })).workloads).toEqual([]);
  });

  it('that NATS asks for are in a file, renewed while it runs', async () => {
    const credentials = (round: number) =>
      natsConnectionData({
        nats_servers: [network.server.url],
        nats_user_jwt: `header.claims-${round}.signature`,
        nats_user_seed: `SUSEED${round}`,
      });
    const plain = async () => natsConnectionData({ nats_servers: [network.server.url] });
    const minter: Minter = { registration: plain, agent: plain, workload: async () => credentials(1) };
    await using node = await open({ minter });
    const show = 'while read -r line; do echo "$line"; done <$NEX_WORKLOAD_NATS_CREDS';
    const id = await user.start(
      `${show}; read -r first <$NEX_WORKLOAD_NATS_CREDS; echo shown; trap '${show}; echo shown again; exit' TERM; ${WAIT}`,
      { stop: { grace: '5s' } },
    );
    await feed.line(id, 'shown');
    const file = (round: number) => [
      '-----BEGIN NATS USER JWT-----',
      `header.claims-${round}.signature`,
      '------END NATS USER JWT------',
      '',
      '-----BEGIN USER NKEY SEED-----',
      `SUSEED${round}`,
      '------END USER NKEY SEED------',
    ];
    expect(feed.texts(id)).toEqual([...file(1), 'shown']);
    await node.nexlet.definition.renew?.(id, credentials(2));
    expect(await user.client.stopWorkload(id)).toMatchObject({ stopped: true });
    await feed.line(id, 'shown again');
    expect(feed.texts(id)).toEqual([...file(1), 'shown', ...file(2), 'shown again']);
    expect(await filesWith(stateDir, 'SUSEED')).toEqual([]);
  });

  it('are no file where NATS asks for none', async () => {
    await using _node = await open();
    const id = await user.start('echo "file=$NEX_WORKLOAD_NATS_CREDS"');
    await feed.line(id, 'file=');
  });
});

function inspect(fields: object): string {
  return JSON.stringify(fields, (_key, value: unknown) =>
    value instanceof Error ? { message: value.message, stack: value.stack, cause: value.cause } : value,
  );
}

/** A text as it may be hidden in other text. */
function formsOf(text: string): string[] {
  return [text, Buffer.from(text).toString('base64').slice(0, -4), Buffer.from(text).toString('hex')];
}

/** Files below a folder that hold a text; those of the store aside. */
async function filesWith(folder: string, text: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (!entry.isFile() || file.startsWith(join(folder, 'store/nix'))) continue;
    const content = await readFile(file, 'latin1').catch(() => '');
    if (content.includes(text)) found.push(file);
  }
  return found;
}

/** Command lines of this machine that hold a text. */
async function commandsWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return commands.filter((command) => command.includes(text));
}
