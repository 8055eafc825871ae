import { Option } from 'commander';

/** For a supervising process that keeps a pipe to a daemon. */
export function untilStdinEnds(): Option {
  return new Option('--until-stdin-ends', 'stop when standard input ends: for a supervising process').hideHelp();
}

/** Calls `end` when standard input closes: the supervising process is gone, however it went. */
export function endWithStdin(end: () => void): Disposable {
  process.stdin.once('close', end).resume();
  return {
    [Symbol.dispose]() {
      process.stdin.off('close', end).destroy();
    },
  };
}
