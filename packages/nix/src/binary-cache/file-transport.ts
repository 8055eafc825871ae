import { randomBytes } from 'node:crypto';
import { openSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fileChunks } from '../nar/file-chunks.ts';
import type { CacheTransport, UploadContent } from './cache-transport.ts';
import { NixError, systemErrorCode } from '../nix-error.ts';

/** Files below the folder `root`. What is written is on the disk before it gets its name. */
export function fileTransport(root: URL): CacheTransport {
  return {
    async get(url, options) {
      options.signal?.throwIfAborted();
      const path = pathBelow(root, url);
      try {
        return fileChunks(openSync(path, 'r'), options);
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') return undefined;
        throw new NixError('NIX_CACHE_INVALID', `Cannot read "${url.href}": ${String(error)}`, { cause: error });
      }
    },
    async has(url, { signal }) {
      signal?.throwIfAborted();
      try {
        return (await stat(pathBelow(root, url))).isFile();
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') return false;
        throw new NixError('NIX_CACHE_INVALID', `Cannot read "${url.href}": ${String(error)}`, { cause: error });
      }
    },
    async put(url, content, { signal }) {
      signal?.throwIfAborted();
      const path = pathBelow(root, url);
      try {
        await publish(content, path);
      } catch (error) {
        throw new NixError('NIX_CACHE_WRITE_FAILED', `Cannot write "${url.href}": ${String(error)}`, { cause: error });
      }
    },
    async spoolFolder() {
      const folder = fileURLToPath(new URL('nar/', root));
      try {
        await mkdir(folder, { recursive: true });
      } catch (error) {
        throw new NixError('NIX_CACHE_WRITE_FAILED', `Cannot make "${folder}": ${String(error)}`, { cause: error });
      }
      return folder;
    },
  };
}

function pathBelow(root: URL, url: URL): string {
  if (url.protocol === 'file:' && url.pathname.startsWith(root.pathname)) return fileURLToPath(url);
  throw new NixError('NIX_CACHE_INVALID', `Cannot use "${url.href}": it is outside the binary cache "${root.href}"`);
}

async function publish(content: UploadContent, path: string): Promise<void> {
  const folder = dirname(path);
  const isText = 'text' in content;
  const spooled = isText ? `${path}.tmp-${randomBytes(8).toString('hex')}` : content.file;
  try {
    if (isText) {
      await mkdir(folder, { recursive: true });
      await writeFile(spooled, content.text, { flag: 'wx', flush: true });
    } else {
      await syncFile(spooled);
    }
    await rename(spooled, path);
  } catch (error) {
    if (isText) await rm(spooled, { force: true });
    throw error;
  }
  await syncFile(folder);
}

async function syncFile(path: string): Promise<void> {
  await using handle = await open(path);
  await handle.sync();
}
