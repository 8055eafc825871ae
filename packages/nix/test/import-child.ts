/** Imports what `argv` names into a local store, slowly when so asked; a process of its own so that it can be killed. */
import {
  copyClosure,
  LocalStore,
  openBinaryCache,
  parsePublicKey,
  parseStorePath,
  type PathSource,
} from '@nex-nix/nix';
import { setTimeout } from 'node:timers/promises';

const [dir = '', url = '', root = '', key = '', pause = '0'] = process.argv.slice(2);

const cache = openBinaryCache(url);
const slow: PathSource = {
  name: cache.name,
  pathInfo: (path, options) => cache.pathInfo(path, options),
  async *nar(info, options) {
    for await (const chunk of cache.nar(info, options)) {
      yield chunk;
      if (pause !== '0') {
        process.stdout.write('importing\n');
        await setTimeout(Number(pause));
      }
    }
  },
};

await using store = await LocalStore.open({ dir });
const { copied } = await copyClosure(slow, store, [parseStorePath(root)], { trustedKeys: [parsePublicKey(key)] });
process.stdout.write(`copied ${copied.length}\n`);
// Sessions that begin and end while those of others do.
for (let n = 0; n < 20; n++) await (await LocalStore.open({ dir }))[Symbol.asyncDispose]();
