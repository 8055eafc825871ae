import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import type { Findings, Group, Item } from './group.ts';
import { installation } from './packages.ts';

/** A program or plugin that is looked for by name. */
export interface WantedFile {
  readonly file: string;
  /** For people: `Host-local CNI plugin`. */
  readonly description: string;
  /** Package of Debian that has it; absent: none does. */
  readonly debian?: string;
  /** What to do where there is no such package. */
  readonly hint?: string;
  readonly essential: boolean;
}

/** Executables in folders: the first folder that has one counts. */
export function filesGroup(title: string, folders: readonly string[], wanted: readonly WantedFile[]): Group {
  return {
    title,
    look: async () => {
      let missing = [...wanted];
      const searched: { path: string; items: Item[] }[] = [];
      for (const path of new Set(folders)) {
        if (missing.length === 0) break;
        const items: Item[] = [];
        for (const one of missing) if (await isExecutable(join(path, one.file))) items.push(found(one, path));
        missing = missing.filter(({ description }) => !items.some(({ name }) => name === description));
        searched.push({ path, items });
      }
      return { folders: searched, items: await Promise.all(missing.map(absent)) } satisfies Findings;
    },
  };
}

function found({ file, description, essential }: WantedFile, folder: string): Item {
  return { name: description, met: true, essential, detail: join(folder, file) };
}

async function absent({ file, description, essential, debian, hint }: WantedFile): Promise<Item> {
  return {
    name: description,
    met: false,
    essential,
    detail: `there is no "${file}" in these folders`,
    ...(debian === undefined ? { hint } : await installation([debian])),
  };
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
