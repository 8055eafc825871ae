import { createHash } from 'node:crypto';
import { type Stats, lstatSync, readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { SignalOptions } from '../abortable.ts';
import { narHashOf } from '../formats/hash.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { dumpNar } from '../nar/dump-nar.ts';
import { childPath } from '../nar/walk-tree.ts';
import { NixError } from '../nix-error.ts';

/** What is wrong with a path on disk. */
export interface Damage {
  /**
   * - `missing`: there is nothing.
   * - `content`: it is not what was imported, or cannot be read.
   * - `metadata`: the content is right, a mode or a modification time is not.
   */
  readonly kind: 'missing' | 'content' | 'metadata';
  /** In words, for people. */
  readonly detail: string;
}

/** Milliseconds of looking at metadata before others get their turn. */
const TIME_SLICE = 5;

/** Reads everything at `realPath` and compares it with the record of the path; undefined when all is as it should be. */
export async function checkPath(
  info: PathInfo,
  realPath: string,
  { signal }: SignalOptions = {},
): Promise<Damage | undefined> {
  if (lstatSync(realPath, { throwIfNoEntry: false }) === undefined) {
    return { kind: 'missing', detail: 'it is not there' };
  }
  try {
    return (await checkContent(info, realPath, signal)) ?? (await checkMetadata(realPath, signal));
  } catch (error) {
    // It cannot be read, or parts of it are gone, perhaps only just now.
    const isOfDisk = error instanceof NixError || (error instanceof Error && 'errno' in error);
    if (!isOfDisk || signal?.aborted === true) throw error;
    return { kind: 'content', detail: error.message };
  }
}

async function checkContent(
  info: PathInfo,
  realPath: string,
  signal: AbortSignal | undefined,
): Promise<Damage | undefined> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of dumpNar(realPath, { signal, reuseChunks: true })) {
    hash.update(chunk);
    size += chunk.length;
  }
  if (size !== info.narSize) {
    return { kind: 'content', detail: `its NAR is ${size} bytes, expected ${info.narSize}` };
  }
  const narHash = narHashOf(hash.digest());
  if (narHash === info.narHash) return undefined;
  return { kind: 'content', detail: `its NAR hash is ${narHash}, expected ${info.narHash}` };
}

async function checkMetadata(realPath: string, signal: AbortSignal | undefined): Promise<Damage | undefined> {
  const pending: Buffer[] = [Buffer.from(realPath)];
  let sliceEnd = performance.now() + TIME_SLICE;
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const stats = lstatSync(path);
    const fault = metadataFault(stats);
    if (fault !== undefined) return { kind: 'metadata', detail: `"${path.toString()}" ${fault}` };
    if (stats.isDirectory()) {
      for (const name of readdirSync(path, { encoding: 'buffer' })) pending.push(childPath(path, name));
    }
    if (performance.now() < sliceEnd) continue;
    await setImmediate();
    signal?.throwIfAborted();
    sliceEnd = performance.now() + TIME_SLICE;
  }
  return undefined;
}

function metadataFault(stats: Stats): string | undefined {
  if (stats.mtimeMs !== 1000) return `was changed at ${stats.mtime.toISOString()}, expected 1 second after 1970`;
  if (stats.isSymbolicLink()) return undefined;
  const mode = stats.mode & 0o7777;
  if (mode === 0o555 || (mode === 0o444 && stats.isFile())) return undefined;
  return `has mode ${mode.toString(8)}, expected ${stats.isFile() ? '444 or 555' : '555'}`;
}
