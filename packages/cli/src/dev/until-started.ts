import type { DevControls, DevStatus } from '@nex-nix/devenv';

/** The status when nothing waits or starts any more: all are ready, or something went wrong. */
export async function untilStarted(controls: DevControls, signal: AbortSignal): Promise<DevStatus> {
  for await (const status of controls.watch(signal)) {
    if (!status.services.some(({ state }) => state === 'waiting' || state === 'starting')) return status;
  }
  return controls.status();
}
