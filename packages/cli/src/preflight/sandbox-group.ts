import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toPublicError } from '@nex-nix/errors';
import type { Requirement, Runtime } from '@nex-nix/sandbox';
import type { Group, Item } from './group.ts';

/**
 * What a runtime itself says that it needs, and then the one check that decides: it starts a sandbox. The runtime gets a
 * state folder that is gone afterwards, so a node that runs meanwhile is not disturbed.
 */
export function sandboxGroup(title: string, open: (stateDir: string) => Promise<Runtime>): Group {
  return {
    title,
    look: async () => {
      const stateDir = await mkdtemp(join(tmpdir(), 'nex-preflight-'));
      try {
        await using runtime = await open(stateDir);
        const items = (await runtime.check()).map(itemOf);
        const unfit = items.some(({ essential, met }) => essential && !met);
        return { folders: [], items: unfit ? items : [...items, await trial(runtime)] };
      } catch (error) {
        return { folders: [], items: [failed('a sandbox', error)] };
      } finally {
        await rm(stateDir, { recursive: true, force: true });
      }
    },
  };
}

function itemOf({ name, met, essential, detail, hint }: Requirement): Item {
  return { name, met, essential, detail, hint };
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
  const { message, hint } = toPublicError(error);
  return { name, met: false, essential: true, detail: message, hint };
}
