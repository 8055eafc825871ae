import { join } from 'node:path';
import { DevError } from '../dev-error.ts';
import { foldersIn, readIfPresent } from '../write-file.ts';

/** Where nsc keeps an operator and what belongs to it. */
export interface NscPlace {
  /** Folder of `nsc.json`. */
  readonly config: string;
  /** Folder of operators: `<stores>/<operator>/<operator>.jwt`. */
  readonly stores: string;
  /** Folder of `keys` and `creds`. */
  readonly keystore: string;
  readonly operator: string;
}

/**
 * The operator in a folder that is laid out as `nsc --all-dirs <folder>` does, or as `~/.local/share/nats/nsc` is, with `stores` and `keys`
 * apart. Of several operators it is that of the name `own`, else the one that nsc works on. Where there is none, `own` is to be made.
 *
 * @throws {DevError} DEVENV_STORE_INVALID when there are several and nothing says which
 */
export async function findNscPlace(folder: string, own: string): Promise<NscPlace> {
  const apart = { config: folder, stores: join(folder, 'stores'), keystore: join(folder, 'keys') };
  const together = { config: folder, stores: folder, keystore: folder };
  for (const place of [together, apart]) {
    const operators = await operatorsIn(place.stores);
    const [only] = operators;
    if (only === undefined) continue;
    if (operators.length === 1) return { ...place, operator: only };
    const chosen = operators.includes(own) ? own : await chosenOperator(join(folder, 'nsc.json'));
    if (chosen !== undefined && operators.includes(chosen)) return { ...place, operator: chosen };
    throw new DevError(
      'DEVENV_STORE_INVALID',
      `Cannot tell which of the operators ${operators.join(', ')} in "${folder}" to use`,
      {
        hint: `Choose one: nsc -H ${folder} env -o ${only}`,
      },
    );
  }
  return { ...together, operator: own };
}

/** Folders that nsc takes for operators: what is in their file `.nsc` says so. */
async function operatorsIn(stores: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await foldersIn(stores)) {
    const { kind, name: operator } = jsonOf(await readIfPresent(join(stores, name, '.nsc')));
    if (kind === 'operator' && operator === name) found.push(name);
  }
  return found;
}

async function chosenOperator(file: string): Promise<string | undefined> {
  const { operator } = jsonOf(await readIfPresent(file));
  return typeof operator === 'string' && operator !== '' ? operator : undefined;
}

/** What is no JSON object says nothing. */
function jsonOf(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
