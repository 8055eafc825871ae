/** Holds a path of a local store until it is killed. */
import { LocalStore, parseStorePath } from '@nex-nix/nix';

const [dir = '', path = ''] = process.argv.slice(2);
await using store = await LocalStore.open({ dir });
using _hold = store.hold([parseStorePath(path)]);
process.stdout.write('holding\n');
await new Promise((resolve) => setTimeout(resolve, 60_000));
