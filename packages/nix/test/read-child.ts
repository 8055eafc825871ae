/** Asks the database of a Nix store for a path, and prints its NAR size or the code of the error. */
import { NixError, NixStore, parseStorePath } from '@nex-nix/nix';

const [root = '', path = ''] = process.argv.slice(2);
const store = new NixStore({ root, reader: 'database' });
try {
  process.stdout.write(String((await store.pathInfo(parseStorePath(path)))?.narSize));
} catch (error) {
  if (!(error instanceof NixError)) throw error;
  process.stdout.write(error.code);
}
