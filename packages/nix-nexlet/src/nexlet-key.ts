import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { createXKey, seedOfXKey, xkeyOfSeed } from '@nex-nix/protocol';
import { NixNexletError } from './nix-nexlet-error.ts';

/** A curve key pair. */
export type XKey = ReturnType<typeof xkeyOfSeed>;

/**
 * The curve key of the nexlet, kept in `<stateDir>/nexlet-xkey` (mode 0600) so that what was sealed for it can be opened
 * after a restart; made when there is none.
 *
 * @throws {NixNexletError} NIX_NEXLET_KEY_INVALID
 */
export async function loadNexletKey(stateDir: string): Promise<XKey> {
  const file = join(stateDir, 'nexlet-xkey');
  const seed = (await readIfThere(file)) ?? (await createOnce(file, seedOfXKey(createXKey())));
  try {
    return xkeyOfSeed(seed);
  } catch (cause) {
    throw new NixNexletError('NIX_NEXLET_KEY_INVALID', `Cannot use the key in "${file}": it is no curve seed (SX…)`, {
      cause,
      hint: `Remove it, and the nexlet makes a new one; what is sealed for the old one has to be started anew: rm ${file}`,
    });
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Puts a whole file in place, or returns what somebody else put there first. */
async function createOnce(file: string, text: string): Promise<string> {
  await mkdir(join(file, '..'), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomUUID()}`;
  await writeFile(draft, `${text}\n`, { mode: 0o600, flag: 'wx' });
  try {
    await link(draft, file);
    return text;
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error;
    return await readFile(file, 'utf8');
  } finally {
    await rm(draft, { force: true });
  }
}

function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
