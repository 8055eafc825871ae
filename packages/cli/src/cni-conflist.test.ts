import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { findConflist } from './cni-conflist.ts';

it('findConflist() goes by the name inside, and says why a list is not used', async () => {
  await using folder = await tempDir('nex-cni-');
  const lists = join(folder.path, 'conf.d');
  expect(await findConflist('lab', lists)).toEqual({
    why: `there is no CNI configuration list named "lab" in "${lists}": the node's own bridge is used`,
  });
  await mkdir(lists);
  const list = (name: string, ...types: string[]) => JSON.stringify({ name, plugins: types.map((type) => ({ type })) });
  await writeFile(join(lists, '00-broken.conflist'), '{');
  await writeFile(join(lists, '01-none.conflist'), '"lab"');
  await writeFile(join(lists, '02-other.conflist'), list('other', 'bridge'));
  await writeFile(join(lists, '10-lab.conf'), list('lab', 'bridge'));
  await writeFile(join(lists, '20-wanted.conflist'), list('lab', 'bridge', 'portmap'));
  await writeFile(join(lists, 'fcnet.conflist'), list('fcnet', 'ptp', 'host-local', 'tc-redirect-tap'));
  expect(await findConflist('lab', lists)).toEqual({ file: join(lists, '20-wanted.conflist') });
  expect((await findConflist('fcnet', lists)).why).toMatch(/fcnet\.conflist" is for another VMM's taps/);
});
