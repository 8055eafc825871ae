import { readdir } from 'node:fs/promises';
import { toPublicError } from '@nex-nix/errors';
import type { Group, Remedy } from './group.ts';

/** Name of the item, here and in what a runtime says. */
export const GUEST = 'guest image';

/** Whether a folder is a guest image, as far as one sees without reading all of it. */
export async function isGuestImage(folder: string | undefined): Promise<boolean> {
  if (folder === undefined) return false;
  const { readGuestImage } = await import('@nex-nix/guest');
  return readGuestImage(folder).then(
    () => true,
    () => false,
  );
}

/** The guest image that virtual machines boot: whole, or built from this machine's kernel where there is nothing yet. */
export function guestGroup(folder: string): Group {
  return {
    title: 'Guest image',
    look: async () => {
      const { readGuestImage } = await import('@nex-nix/guest');
      const item = { name: GUEST, essential: true };
      try {
        const { kind, system, agent } = await readGuestImage(folder, { verify: true });
        const detail = `${folder}: ${kind} guest for ${system}, agent ${agent}`;
        return { folders: [], items: [{ ...item, met: true, detail }] };
      } catch (error) {
        const { message: detail, hint } = toPublicError(error);
        const remedy = (await isVacant(folder)) ? buildRemedy(folder) : undefined;
        return { folders: [], items: [{ ...item, met: false, detail, hint, remedy }] };
      }
    },
  };
}

/** Whether nothing of anybody's would be replaced. */
async function isVacant(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw error;
  }
}

function buildRemedy(folder: string): Remedy {
  return {
    what: `nex guest build --output ${folder}`,
    run: async (signal) => {
      const { buildMinimalGuest } = await import('@nex-nix/guest');
      await buildMinimalGuest({ output: folder, replace: true, signal });
    },
  };
}
