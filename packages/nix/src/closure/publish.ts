import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { SignalOptions } from '../abortable.ts';
import { type ContentAddress, contentAddressedPath, formatContentAddress } from '../formats/content-address.ts';
import { narHashOf } from '../formats/hash.ts';
import type { PathInfo } from '../formats/path-info.ts';
import type { StorePath } from '../formats/store-path.ts';
import { dumpNar } from '../nar/dump-nar.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { narOf, type NarTree } from '../nar/nar-of.ts';
import { NixError, systemErrorCode } from '../nix-error.ts';
import type { PathSource } from './path-source.ts';

/** Options of {@link publish}. */
export interface PublishOptions extends SignalOptions {
  /** Name of the store path, the part after the hash; that of the file by default. */
  name?: string | undefined;
  /**
   * What of the file or folder the store path is:
   *
   * - `tree`: it as it is, like `nix store add` and `nix store add-path`;
   * - `flat`: the bytes of a file, not executable, like `nix store add-file`;
   * - `program`: a folder that holds an executable file as `bin/<name of the file>`, as programs lie in store paths of Nix.
   *
   * @default 'tree'
   */
  as?: 'tree' | 'flat' | 'program' | undefined;
}

/** A file or folder of this machine as a store path: a source of this one path, to be copied to a store or a cache. */
export interface Publication extends PathSource {
  /** Content-addressed, so that nobody needs to sign it. It refers to no other store path. */
  readonly info: PathInfo;
}

type Kind = NonNullable<PublishOptions['as']>;

const CHUNK_SIZE = 256 * 1024;

/**
 * Makes a content-addressed store path of a file or folder, without Nix: the path is the one that Nix gives the same content.
 * The content is read now, for the path, and again whenever the NAR is wanted; whoever takes the NAR verifies it, so what changes
 * in between is refused. References to other store paths are not looked for.
 *
 * @throws {@link NixError} `NIX_PATH_NOT_FOUND`, `NIX_PUBLISH_REFUSED` when it is not of the kind that `as` asks for,
 *   `NIX_STORE_PATH_INVALID` when the name cannot be that of a store path, `NIX_DUMP_FAILED` when something cannot be read.
 */
export async function publish(file: string, options: PublishOptions = {}): Promise<Publication> {
  const { as = 'tree', signal } = options;
  const path = resolve(file);
  await requireKind(path, as);
  const nar = await digestOf(narBytes(path, as, { signal, reuseChunks: true }));
  const { digest } = as === 'flat' ? await digestOf(fileBytes(await openFile(path), { signal })) : nar;
  const ca = { method: as === 'flat' ? 'flat' : 'nar', algorithm: 'sha256', digest } as const;
  const info: PathInfo = {
    storePath: pathOf(path, ca, options.name ?? basename(path)),
    narHash: narHashOf(nar.digest),
    narSize: nar.size,
    references: [],
    signatures: [],
    ca: formatContentAddress(ca),
  };
  return {
    name: path,
    info,
    pathInfo: async (wanted: StorePath) => (wanted === info.storePath ? info : undefined),
    nar: (_info, reading = {}) => narBytes(path, as, reading),
  };
}

function pathOf(path: string, ca: ContentAddress, name: string): StorePath {
  try {
    return contentAddressedPath(ca, name);
  } catch (error) {
    if (!(error instanceof NixError) || error.code !== 'NIX_STORE_PATH_INVALID') throw error;
    throw new NixError(
      'NIX_STORE_PATH_INVALID',
      `Cannot publish "${path}": no store path can be called ${JSON.stringify(name)}`,
      {
        hint: 'Rename it: a name has at most 211 of A-Z a-z 0-9 + - . _ ? =',
        cause: error,
      },
    );
  }
}

async function requireKind(path: string, as: Kind): Promise<void> {
  const followed = await attempt(path, () => (as === 'tree' ? lstat(path) : stat(path)));
  if (as === 'tree') return;
  if (!followed.isFile()) throw refused(path, 'it is no plain file');
  if (as === 'program' && (followed.mode & 0o111) === 0) {
    throw refused(path, 'it is not executable', `If it is a program, make it so: chmod +x ${path}`);
  }
}

async function* narBytes(
  path: string,
  as: Kind,
  { signal, reuseChunks }: NarOptions,
): AsyncGenerator<Uint8Array, void> {
  if (as === 'tree') return yield* dumpNar(path, { signal, reuseChunks });
  const file = await openFile(path);
  const { size } = await file.stat();
  const node: NarTree = { type: 'regular', executable: as === 'program', contents: fileBytes(file, { signal }), size };
  if (as === 'flat') return yield* narOf(node, { signal });
  const bin: NarTree = { type: 'directory', entries: [[basename(path), node]] };
  yield* narOf({ type: 'directory', entries: [['bin', bin]] }, { signal });
}

function openFile(path: string): Promise<FileHandle> {
  return attempt(path, () => open(path, constants.O_RDONLY | constants.O_NONBLOCK));
}

/** Closes the file at its end. */
function fileBytes(file: FileHandle, { signal }: SignalOptions): AsyncIterable<Uint8Array> {
  return file.createReadStream({ highWaterMark: CHUNK_SIZE, signal });
}

async function digestOf(bytes: AsyncIterable<Uint8Array>): Promise<{ digest: Buffer; size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of bytes) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { digest: hash.digest(), size };
}

async function attempt<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') {
      throw new NixError('NIX_PATH_NOT_FOUND', `Cannot publish "${path}": there is no such file`, { cause: error });
    }
    throw new NixError('NIX_DUMP_FAILED', `Cannot publish "${path}": ${String(error)}`, { cause: error });
  }
}

function refused(path: string, why: string, hint?: string): NixError {
  return new NixError('NIX_PUBLISH_REFUSED', `Cannot publish "${path}": ${why}`, hint === undefined ? {} : { hint });
}
