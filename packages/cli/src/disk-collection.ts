import type { Logger } from '@nex-nix/nexlet';
import { type LocalStore, parseStorePath } from '@nex-nix/nix';
import type { MicrovmRuntime } from '@nex-nix/sandbox';

const HOUR_MS = 3_600_000;

/** Has disks removed that hold what the node's store does not have any more: now, and every hour. */
export function collectDisks(
  { disks }: MicrovmRuntime,
  { store, logger }: { store: LocalStore; logger: Logger },
): AsyncDisposable {
  const isPresent = (storePath: string) => store.has(parseStorePath(storePath));
  const collect = async (): Promise<void> => {
    try {
      await disks.collect({ isPresent });
    } catch (error) {
      // The next one may do better; workloads are not touched by it.
      logger.warn({ err: error }, 'closure disks that nothing needs any more cannot be removed');
    }
  };
  let running = collect();
  const timer = setInterval(() => {
    running = running.then(collect);
  }, HOUR_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await running;
    },
  };
}
