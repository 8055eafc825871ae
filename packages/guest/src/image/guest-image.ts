import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { GuestError } from '../guest-error.ts';
import { type GuestManifest, type ImageFile, MANIFEST_FILE, parseManifest } from './manifest.ts';

export interface ReadGuestImageOptions {
  /** Also compares the files with the hashes of the manifest: reads all of them. @default false */
  verify?: boolean;
  signal?: AbortSignal;
}

/**
 * The manifest of the guest image in a folder, whose files are there and have the size it says.
 *
 * @throws GuestError GUEST_IMAGE_INVALID naming the file that is wrong
 */
export async function readGuestImage(
  folder: string,
  { verify = false, signal }: ReadGuestImageOptions = {},
): Promise<GuestManifest> {
  const text = await readFile(join(folder, MANIFEST_FILE), 'utf8').catch((error: unknown) => {
    throw invalid(folder, `there is no ${MANIFEST_FILE} in it`, error);
  });
  const manifest = parseManifest(text, (why) => invalid(folder, `its ${MANIFEST_FILE} is wrong: ${why}`));
  for (const file of [manifest.kernel, manifest.initrd, manifest.root]) {
    await checkFile(folder, file, { verify, signal });
  }
  return manifest;
}

async function checkFile(
  folder: string,
  { file, size, sha256 }: ImageFile,
  { verify, signal }: { verify: boolean; signal: AbortSignal | undefined },
): Promise<void> {
  const path = join(folder, file);
  const stats = await stat(path).catch((error: unknown) => {
    throw invalid(folder, `its file "${file}" is not there`, error);
  });
  if (!stats.isFile()) throw invalid(folder, `"${file}" is not a file`);
  if (stats.size !== size) {
    throw invalid(folder, `its file "${file}" has ${stats.size} bytes, its manifest says ${size}`);
  }
  if (verify && (await sha256Of(path, signal)) !== sha256) {
    throw invalid(folder, `its file "${file}" is not the one of its manifest: the SHA-256 differs`);
  }
}

/** In base16. */
export async function sha256Of(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash, { signal });
  return hash.digest('hex');
}

function invalid(folder: string, why: string, cause?: unknown): GuestError {
  return new GuestError('GUEST_IMAGE_INVALID', `Cannot use the guest image "${folder}": ${why}`, {
    hint: `nex guest build --output ${folder} --replace`,
    ...(cause === undefined ? {} : { cause }),
  });
}
