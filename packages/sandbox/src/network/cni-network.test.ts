import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CniNetwork, parseConflist } from './cni-network.ts';

const CONNECTION = { containerId: 'c', namespace: '/run/netns/c', capabilities: { portMappings: [{ hostPort: 1 }] } };

describe('CniNetwork', () => {
  let folder = '';
  let remove: () => PromiseLike<void>;

  beforeAll(async () => {
    const dir = await tempDir();
    folder = dir.path;
    remove = () => dir[Symbol.asyncDispose]();
  });
  afterAll(() => remove());

  const plugin = async (name: string, script: string) => {
    await writeFile(join(folder, name), `#!/bin/sh\nread -r config\n${script}\n`);
    await chmod(join(folder, name), 0o755);
  };
  const network = (...types: string[]) =>
    new CniNetwork(
      {
        cniVersion: '1.0.0',
        name: 'n',
        plugins: types.map((type) => ({ type, capabilities: { portMappings: true } })),
      },
      [folder],
    );

  it('tells what a plugin complains about on standard output, on stderr, or not at all', async () => {
    await plugin('says', `echo '{"code": 11, "msg": "no address left", "details": "in 10.0.0.0/30"}'; exit 1`);
    await plugin('cries', 'echo "panic: oh" >&2; exit 2');
    await plugin('dies', 'exit 3');
    const failing = (type: string) => network(type).connect(CONNECTION);
    await expect(failing('says')).rejects.toThrow('CNI plugin "says": no address left, in 10.0.0.0/30');
    await expect(failing('cries')).rejects.toThrow('CNI plugin "cries": panic: oh');
    await expect(failing('dies')).rejects.toThrow('CNI plugin "dies": it ends with exit code 3');
  });

  it('refuses an answer that is no JSON, and a version that a plugin does not know', async () => {
    await plugin('chats', 'echo hello');
    await plugin('old', `echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.0", "0.4.0"]}'`);
    await expect(network('chats').connect(CONNECTION)).rejects.toThrow('answers ADD with no JSON');
    await expect(network('old').checkVersions()).rejects.toThrow('knows the versions 0.3.0, 0.4.0, expected 1.0.0');
    await expect(network('none').checkVersions()).rejects.toMatchObject({ code: 'SANDBOX_NETWORK_FAILED' });
  });

  it('hands each result on, and takes back in reverse order, with the last result, whatever fails', async () => {
    const log = join(folder, 'log');
    for (const name of ['one', 'two']) {
      await plugin(
        name,
        `echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME ${name} $config" >>${log}
         [ "$CNI_COMMAND" = ADD ] || exit 1
         echo '{"ips": [{"address": "10.0.0.2/24"}], "by": "${name}"}'`,
      );
    }
    const both = network('one', 'two');
    const result = await both.connect(CONNECTION);
    expect(result).toMatchObject({ by: 'two' });
    expect(await both.disconnect({ ...CONNECTION, namespace: '' }, result)).toHaveLength(2);
    const lines = (await readFile(log, 'utf8')).trim().split('\n');
    const calls = lines.map((line) => ({
      call: line.slice(0, line.indexOf(' {')),
      config: JSON.parse(line.slice(line.indexOf('{'))) as object,
    }));
    expect(calls.map(({ call }) => call)).toEqual([
      'ADD c /run/netns/c eth0 one',
      'ADD c /run/netns/c eth0 two',
      'DEL c  eth0 two',
      'DEL c  eth0 one',
    ]);
    expect(calls[0]?.config).toEqual({
      type: 'one',
      cniVersion: '1.0.0',
      name: 'n',
      runtimeConfig: { portMappings: [{ hostPort: 1 }] },
    });
    expect(calls[1]?.config).toMatchObject({ prevResult: { by: 'one' } });
    expect(calls[3]?.config).toMatchObject({ prevResult: { by: 'two' } });
  });
});

describe('parseConflist()', () => {
  it('says what is wrong with a file', () => {
    const parse = (value: unknown) => () => parseConflist(JSON.stringify(value), 'own.conflist');
    expect(() => parseConflist('{', 'own.conflist')).toThrow('Cannot use the network configuration "own.conflist"');
    expect(parse(null)).toThrow('no cniVersion');
    expect(parse({ cniVersion: '1.0.0', name: '../x', plugins: [] })).toThrow('no name');
    expect(parse({ cniVersion: '1.0.0', name: 'x', type: 'bridge' })).toThrow('no list of plugins');
    expect(parse({ cniVersion: '1.0.0', name: 'x', plugins: [{ type: '../../bin/sh' }] })).toThrow('no plain type');
  });
});
