import { consoleText } from '../console-text.ts';
import type { VmExit } from '../vmm.ts';

/** The ends of what a Firecracker has left behind. */
export interface LastWords {
  /** Its log. */
  log: string;
  /** Its standard error, and before that of what became it. */
  errors: string;
  /** The guest's console. */
  console: string;
}

const DETAIL_LINES = 6;

/**
 * A virtual processor could not go on: KVM could not run what the guest did, or the guest has lost itself (a triple fault).
 * Firecracker may end "successfully" then, when it looks for its processors' words before they are there (so did 1.17).
 */
const PROCESSOR_FAILED =
  /Received KVM_EXIT_(?:INTERNAL_ERROR|FAIL_ENTRY)|Received ENOSYS error|Unexpected exit reason on vcpu run|Failure during vcpu run/;

/**
 * What a Firecracker that has ended says of it. Its exit code is known to its parent alone, which may be gone, so its last
 * words tell. A guest can only reboot (there is no power button), which is how it ends on purpose; after a panic it does
 * the same, and its console tells the difference.
 */
export function exitFrom({ log, errors, console }: LastWords): VmExit {
  const lines = consoleText(log);
  const said = lines.split('\n').slice(-DETAIL_LINES).join('\n');
  if (PROCESSOR_FAILED.test(lines)) return { reason: 'failed', detail: said };
  // "exited successfully" until 1.15, "exiting successfully. exit_code=0" since 1.16.
  if (/Firecracker exit(ed|ing) successfully/.test(said)) {
    return { reason: /Kernel panic - not syncing/.test(console) ? 'panic' : 'shutdown', detail: said };
  }
  const complaint = consoleText(errors).split('\n').slice(-DETAIL_LINES).join('\n');
  // A signal that it takes for the end (such as that of a forbidden system call) and a panic of its own are in its log alone.
  const hasGivenUp =
    complaint !== '' || /Shutting down VM after intercepting|panicked at|exiting with error/.test(said);
  return { reason: hasGivenUp ? 'failed' : 'killed', detail: [complaint, said].filter(Boolean).join('\n') };
}
