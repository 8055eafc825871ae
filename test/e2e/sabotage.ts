import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { headers, type NatsConnection } from '@nats-io/nats-core';
import { NatsCache } from '@nex-nix/cache';
import { NixStore, parseStorePath, storePathHash } from '@nex-nix/nix';
import { findTool } from '@nex-nix/test-kit';

const run = promisify(execFile);
const NIX_CONFIG = 'substituters =\nsandbox = false\nbuild-users-group =';

/** Builds a store path whose `bin/` holds a static program under each of the names. */
export async function addProgram(folder: string, name: string, programs: readonly string[]): Promise<string> {
  const busybox = findTool('busybox');
  const file = join(folder, `${name}.nix`);
  const script = `b=${busybox}; $b mkdir -p $out/bin; for p in ${programs.join(' ')}; do $b cp $b $out/bin/$p; done`;
  await writeFile(
    file,
    `derivation { name = "${name}"; system = builtins.currentSystem; builder = "${busybox}"; args = [ "sh" "-euc" ''${script}'' ]; }\n`,
  );
  const { stdout } = await run('nix-build', ['--no-out-link', file], { env: { ...process.env, NIX_CONFIG } });
  return stdout.trim();
}

/** Puts a store path into the cache without running it. */
export async function push(nc: NatsConnection, path: string): Promise<void> {
  const cache = await NatsCache.open(nc);
  await cache.push(new NixStore(), [parseStorePath(path)]);
}

/** Replaces every chunk in the cache by other bytes of the same form. */
export async function corruptEveryChunk(nc: NatsConnection): Promise<number> {
  const manager = await jetstreamManager(nc);
  const js = jetstream(nc);
  const { state } = await manager.streams.info('NIX_CHUNKS', { subjects_filter: '>' });
  const subjects = Object.keys(state.subjects ?? {});
  for (const subject of subjects) {
    const message = await manager.streams.getMessage('NIX_CHUNKS', { last_by_subj: subject });
    if (message === null) continue;
    const copy = headers();
    for (const key of message.header.keys()) copy.set(key, message.header.get(key));
    copy.delete('Nats-Expected-Last-Subject-Sequence');
    const bytes = Uint8Array.from(message.data);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await manager.streams.deleteMessage('NIX_CHUNKS', message.seq, false);
    await js.publish(subject, bytes, { headers: copy });
  }
  return subjects.length;
}

/** Takes all signatures out of a narinfo in the cache. */
export async function stripSignatures(nc: NatsConnection, path: string): Promise<void> {
  const bucket = await new Kvm(nc).open('nix_narinfo');
  const key = storePathHash(parseStorePath(path));
  const entry = await bucket.get(key);
  if (entry === null) throw new Error(`${path} is not in the cache`);
  await bucket.put(key, entry.string().replaceAll(/^Sig: .*\n/gm, ''));
}
