import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import type { Findings, Group, Item } from './group.ts';
import { packageRemedy } from './remedies.ts';

/** A program or plugin that is looked for by name. */
export interface WantedFile {
  readonly file: string;
  /** For people: `Host-local CNI plugin`. */
  readonly description: string;
  /** Package of Debian that has it. */
  readonly debian: string;
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
      return { folders: searched, items: missing.map(absent) } satisfies Findings;
    },
  };
}

function found({ file, description, essential }: WantedFile, folder: string): Item {
  return { name: description, met: true, essential, detail: join(folder, file) };
}

function absent({ file, description, essential, debian }: WantedFile): Item {
  return {
    name: description,
    met: false,
    essential,
    detail: `there is no "${file}" in these folders`,
    hint: `apt-get install ${debian}`,
    remedy: packageRemedy(debian),
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
