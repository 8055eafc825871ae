// A node with the nix nexlet over a store that has what it is to run; for the benches of sandboxes.
// Arguments: URL of the NATS server, state folder, number of store paths in the closure. Sends the path of the program.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectNats } from '@nex-nix/nats-context';
import { silentLogger } from '@nex-nix/nexlet';
import {
  encodeNixBase32,
  generateSecretKey,
  LocalStore,
  type NarTree,
  narHashOf,
  narOf,
  publicKeyOf,
  signPathInfo,
  type StorePath,
  storePathFromBaseName,
} from '@nex-nix/nix';
import { NixNexlet } from '@nex-nix/nix-nexlet';
import { startNode } from '@nex-nix/node';
import { OciRuntime } from '@nex-nix/sandbox';
import { findTool } from '@nex-nix/test-kit';

const [url = '', stateDir = '', count = ''] = process.argv.slice(2);
await using stack = new AsyncDisposableStack();
const key = generateSecretKey('bench-1');
const store = stack.use(await LocalStore.open({ dir: join(stateDir, 'store') }));
const storePath = await addClosure(Number(count));
const runtime = stack.use(await OciRuntime.open({ stateDir: join(stateDir, 'sandboxes') }));
const nexlet = await NixNexlet.open({
  source: store,
  store,
  runtimes: { oci: runtime },
  trustedKeys: [publicKeyOf(key)],
  stateDir,
  version: '1.0.0',
  logger: silentLogger,
});
const nc = await connectNats({ servers: url });
stack.defer(() => nc.close());
const nodeOptions = { name: 'bench', stateDir, version: '1.0.0', nexlets: [nexlet.definition], logger: silentLogger };
stack.use(await startNode(nc, nodeOptions));
process.send?.({ storePath });
await once(process, 'message');
process.disconnect();

/** A static program `bin/echo` that refers to all other paths. */
async function addClosure(paths: number): Promise<StorePath> {
  const references: StorePath[] = [];
  for (let index = 1; index < paths; index++) {
    references.push(await add(`bench-part-${index}`, { type: 'regular', contents: Buffer.from(`${index}`) }, []));
  }
  const contents = await readFile(findTool('busybox') ?? '');
  const echo = { type: 'regular', executable: true, contents } as const;
  const names = ['echo', 'gzip', 'sleep', 'true'];
  const bin = { type: 'directory', entries: new Map(names.map((name) => [name, echo])) } as const;
  return add('bench-program', { type: 'directory', entries: new Map([['bin', bin]]) }, references.sort());
}

async function add(name: string, tree: NarTree, references: readonly StorePath[]): Promise<StorePath> {
  const hash = createHash('sha256').update(name).digest().subarray(0, 20);
  const path = storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`);
  const nar = Buffer.concat(await Array.fromAsync(narOf(tree)));
  const narHash = narHashOf(createHash('sha256').update(nar).digest());
  const info = { storePath: path, narHash, narSize: nar.length, references, signatures: [] };
  await store.add({ ...info, signatures: [signPathInfo(info, key)] }, chunks(nar));
  return path;
}

async function* chunks(nar: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield nar;
}
