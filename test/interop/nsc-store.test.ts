import { readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { decode, type Operator } from '@nats-io/jwt';
import { type DevEvent, DevServices } from '@nex-nix/devenv';
import { connectContext } from '@nex-nix/nats-context';
import { describeWith, findTool, startProcess, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterEach, beforeEach, expect, it } from 'vitest';

/** Stores that the real nsc has made, before anything of ours was there. */
describeWith(['nats-server', 'nsc'], 'a store that nsc has made', () => {
  let folder: TempDir;
  let data: string;
  let root: string;

  beforeEach(async () => {
    folder = await tempDir('nex-nsc-');
    data = join(folder.path, 'data');
    root = join(data, 'nsc');
  });
  afterEach(() => folder[Symbol.asyncDispose]());

  /** Runs nsc on the store, `-H`, unless `env` says where that is. */
  const nsc = async (words: string, env?: Record<string, string>): Promise<string> => {
    const args = [...(env === undefined ? ['-H', root] : []), ...words.split(' ')];
    const home = { HOME: folder.path, PATH: process.env['PATH'] ?? '', NO_COLOR: '1', ...env };
    await using run = startProcess(findTool('nsc') ?? 'nsc', args, { cwd: folder.path, env: home });
    const { code } = await run.exited;
    expect(code, `nsc ${words}\n${run.output()}`).toBe(0);
    return run.output();
  };

  const start = async (onEvent: (event: DevEvent) => void = () => undefined) =>
    DevServices.start({ dataDir: data, port: 0, monitorPort: 0, cache: false, onEvent });

  const connect = async ({ url }: DevServices, creds: string): Promise<void> => {
    await (await connectContext({ url, creds }, { reconnect: false })).close();
  };

  it('is completed by our users in our account, and otherwise is what it was', async () => {
    await nsc('add operator -n Corp --sys --generate-signing-key');
    await nsc('edit operator --require-signing-keys');
    await nsc('add account -n Apps');
    await nsc('edit account -n Apps --sk generate');
    await nsc('edit signing-key -a Apps --sk generate --role worker --allow-sub jobs.>');
    await nsc('add user -a Apps -n bob');
    await nsc('add user -a Apps -n ann -K worker');
    const before = await filesOf(root);
    const events: DevEvent[] = [];
    await using services = await start((event) => events.push(event));

    const created = events.flatMap((event) => (event.type === 'identity' && event.created ? [event.name] : []));
    expect(created).toEqual(['Exp', 'Admin', 'Node', 'EchoService']);
    const after = await filesOf(root);
    const changed = [...before].filter(([file, text]) => after.get(file) !== text).map(([file]) => file);
    expect(changed).toEqual(['Corp/Corp.jwt']);
    const { account_server_url: pushTo, operator_service_urls: urls, ...rest } = operatorIn(after);
    expect({ pushTo, urls, rest }).toEqual({ pushTo: services.url, urls: [services.url], rest: operatorIn(before) });

    for (const name of ['bob', 'ann']) await connect(services, join(root, `creds/Corp/Apps/${name}.creds`));
    expect(await nsc('validate --all-accounts')).not.toMatch(/error/i);
    expect(await nsc('describe user -a Exp -n Node')).toMatch(/Bearer Token +\| No/);
    expect(await nsc('push -a Apps')).toContain('pushed "Apps" to nats-server nex-dev');

    // What is kept elsewhere, as the key of an operator should be, is not missed.
    const { sub } = decode<Operator>(after.get('Corp/Corp.jwt') ?? '');
    await rm(join(root, 'keys/O', sub.slice(1, 3), `${sub}.nk`));
    await services[Symbol.asyncDispose]();
    // Another port than before: the operator names the old one.
    await rm(join(data, 'ports.json'));
    await using again = await start((event) => events.push(event));
    expect(events).toContainEqual({
      type: 'store-notice',
      message: `nsc does not know of this server: its key is not in the store. To push to it: nsc -H ${root} push -A -u ${again.url}`,
    });
    await connect(again, again.credsFile('Admin'));
  });

  it('of our own names is used as it is, also without signing keys', async () => {
    await nsc('add operator -n Nex --sys');
    await nsc('add account -n Exp');
    for (const user of ['Admin', 'Node', 'EchoService']) await nsc(`add user -a Exp -n ${user}`);
    await expect(start()).rejects.toMatchObject({
      code: 'DEVENV_STORE_INVALID',
      message: `Cannot use the keys in "${root}": the account "Exp" has no JetStream`,
      hint: `Give it: nsc -H ${root} edit account -n Exp --js-enable 0`,
    });
    await nsc('edit account -n Exp --js-enable 0');
    const before = await filesOf(root);
    const events: DevEvent[] = [];
    await using services = await start((event) => events.push(event));
    expect(events.filter((event) => 'created' in event && event.created)).toEqual([
      expect.objectContaining({ type: 'stream' }),
    ]);
    const after = await filesOf(root);
    expect([...after].filter(([file, text]) => before.get(file) !== text).map(([file]) => file)).toEqual([
      'Nex/Nex.jwt',
    ]);
    expect(await readFile(services.accountSigningKeySeedFile, 'utf8')).toMatch(/^SA/);
    await services[Symbol.asyncDispose]();
    await nsc('revocations add-user -a Exp -n Node');
    await expect(start()).rejects.toThrow('the user "Node" is revoked in the account "Exp"');
  });

  it('may keep its keys apart, as nsc does by default, and lack a system account', async () => {
    const apart = { NSC_HOME: root, NKEYS_PATH: join(root, 'keys') };
    await nsc(`--data-dir ${root}/stores add operator -n Two`, apart);
    await nsc(`--data-dir ${root}/stores add account -n Apps`, apart);
    await using services = await start();
    expect((await readdir(root)).sort()).toEqual(['keys', 'nsc.json', 'stores']);
    expect(await nsc('describe operator', services.env())).toMatch(/Two[\s\S]*System Account +\| A[A-Z2-7]+ \/ SYS/);
    expect(await nsc('list users -a Exp', services.env())).toMatch(/Admin[\s\S]*EchoService[\s\S]*Node/);
    expect(await nsc('push -a Exp', services.env())).toContain('pushed "Exp" to nats-server nex-dev');
    expect(services.credsFile('Admin')).toBe(join(root, 'keys/creds/Two/Exp/Admin.creds'));
  });

  it('with several operators is used with that which was chosen', async () => {
    await nsc('add operator -n One --sys');
    await nsc('add operator -n Two --sys');
    await nsc('env -o One');
    await using services = await start();
    expect(services.credsFile('sys')).toBe(join(root, 'creds/One/SYS/sys.creds'));
  });
});

/** Text of each file below a folder, but for what nsc and we choose for ourselves. */
async function filesOf(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  const texts = await Promise.all(
    files.sort().map(async (file): Promise<[string, string]> => [relative(root, file), await readFile(file, 'utf8')]),
  );
  return new Map(texts);
}

function operatorIn(files: Map<string, string>): Operator {
  const [file = ''] = [...files.keys()].filter((name) => dirname(name) === name.split('/')[0] && name.endsWith('.jwt'));
  return decode<Operator>(files.get(file) ?? '').nats as Operator;
}
