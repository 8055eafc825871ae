/** Imports what it finds in a folder until the disk of its store is full; prints what came of it as JSON. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LocalStore, NixError, type PathInfo, storePathHash } from '@nex-nix/nix';

const [dir = '', samples = ''] = process.argv.slice(2);
const infos = JSON.parse(readFileSync(join(samples, 'infos.json'), 'utf8')) as PathInfo[];

async function* narOf({ storePath }: PathInfo): AsyncGenerator<Uint8Array, void> {
  yield readFileSync(join(samples, storePathHash(storePath)));
}

/** `added`, or the code of the error. */
async function add(store: LocalStore, info: PathInfo): Promise<string> {
  try {
    return await store.add(info, narOf(info));
  } catch (error) {
    if (error instanceof NixError) return error.code;
    throw error;
  }
}

await using store = await LocalStore.open({ dir });
const outcomes: string[] = [];
for (const info of infos) outcomes.push(await add(store, info));
const [session = ''] = readdirSync(join(dir, 'tmp')).filter((name) => !name.endsWith('.lock'));
const temporary = readdirSync(join(dir, 'tmp', session));
const full = { report: await store.verify(), inStore: readdirSync(join(dir, 'nix/store')).length, temporary };
const { isWithinBound } = await store.collectGarbage({ maxBytes: 0 });
const afterwards = await add(store, infos[outcomes.indexOf('NIX_STORE_FULL')] as PathInfo);
process.stdout.write(JSON.stringify({ outcomes, full, isWithinBound, afterwards }));
