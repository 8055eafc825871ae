import { BROKEN_PIPE, takeBrokenPipe } from '../broken-pipe.ts';

/** Exit code as shells have it: 128 and the signal's number. */
const HANG_UP = 129;

interface OrderlyEnd extends Disposable {
  readonly signal: AbortSignal;
  /** What to end with once nobody looks. */
  readonly exitCode: number | undefined;
}

/**
 * For a command that has something to stop before it ends. Notices that nobody looks any more, as the reader of a pipe has
 * ended or the terminal was closed, where other commands end at once; and does not end in the middle of stopping when the
 * user presses Ctrl-C again.
 */
export function orderlyEnd(): OrderlyEnd {
  const abort = new AbortController();
  let exitCode: number | undefined;
  const end = (code: number): void => {
    exitCode ??= code;
    abort.abort();
  };
  const hungUp = (): void => end(HANG_UP);
  const failed = (error: NodeJS.ErrnoException): void => {
    // EIO is what a terminal says that has gone.
    if (error.code === 'EPIPE') end(BROKEN_PIPE);
    else if (error.code === 'EIO') end(HANG_UP);
    else throw error;
  };
  // The first one aborts what runs; without a listener, the next would kill. It stays: the last steps are no better moment.
  const again = (): void => undefined;
  process.on('SIGINT', again);
  process.on('SIGTERM', again);
  process.on('SIGHUP', hungUp);
  const taken = takeBrokenPipe(failed);
  process.stderr.on('error', failed);
  return {
    signal: abort.signal,
    get exitCode() {
      return exitCode;
    },
    [Symbol.dispose]() {
      process.off('SIGHUP', hungUp);
      taken[Symbol.dispose]();
      process.stderr.off('error', failed);
    },
  };
}
