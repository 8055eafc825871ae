import { join } from 'node:path';
import { toPublicError } from '@nex-nix/errors';
import type { Requirement, Runtime } from '@nex-nix/sandbox';
import type { Group, Item } from './group.ts';
import { installation, packagesIn } from './packages.ts';

/**
 * What a runtime itself says that it needs, and then the one check that decides: it starts a sandbox. The runtime gets a
 * state folder that is gone afterwards, so a node that runs meanwhile is not disturbed.
 */
export function sandboxGroup(title: string, { open, omit = [] }: SandboxTrial): Group {
  return {
    title,
    look: async () => {
      const { temporaryFolder } = await import('@nex-nix/sandbox');
      await using folder = await temporaryFolder('preflight');
      try {
        await using runtime = await open(trialState(folder.path));
        const items = await Promise.all((await runtime.check()).map(itemOf));
        const unfit = items.some(({ essential, met }) => essential && !met);
        const shown = items.filter(({ name }) => !omit.includes(name));
        return { folders: [], items: unfit ? shown : [...shown, await trial(runtime)] };
      } catch (error) {
        return { folders: [], items: [failed('a sandbox', error)] };
      }
    },
  };
}

export interface SandboxTrial {
  /** Opens the runtime, with a state folder of its own. */
  open: (stateDir: string) => Promise<Runtime>;
  /** Names of items that another group shows. */
  omit?: readonly string[];
}

/** State folder of the runtime that is tried, below the folder that tells who tries it. */
export function trialState(folder: string): string {
  return join(folder, 'state');
}

async function itemOf({ name, met, essential, detail, hint }: Requirement): Promise<Item> {
  const packages = met || hint === undefined ? undefined : packagesIn(hint);
  return { name, met, essential, detail, ...(packages === undefined ? { hint } : await installation(packages)) };
}

async function trial(runtime: Runtime): Promise<Item> {
  const { tryRuntime } = await import('@nex-nix/sandbox');
  const name = `a program runs in ${runtime.name}`;
  try {
    const milliseconds = await tryRuntime(runtime);
    return { name, met: true, essential: true, detail: `started and ended in ${milliseconds.toFixed(0)} ms` };
  } catch (error) {
    return failed(name, error);
  }
}

function failed(name: string, error: unknown): Item {
  const { message, hint = 'The kernel may say why: dmesg | tail' } = toPublicError(error);
  return { name, met: false, essential: true, detail: message, hint };
}
