/** Exit code of a program that writes to a closed pipe, as shells have it: 128 + SIGPIPE. */
export const BROKEN_PIPE = 141;

let handler: ((error: NodeJS.ErrnoException) => void) | undefined;

/** Nobody reads on, as in "nex logs | head": the command ends at once, unless it has something to stop first. */
export function endOnBrokenPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (handler !== undefined) handler(error);
    else if (error.code === 'EPIPE') process.exit(BROKEN_PIPE);
    else throw error;
  });
}

/** From now on `own` is told of errors of stdout, until what is returned is disposed. */
export function takeBrokenPipe(own: (error: NodeJS.ErrnoException) => void): Disposable {
  handler = own;
  return {
    [Symbol.dispose]() {
      if (handler === own) handler = undefined;
    },
  };
}
