import { run } from './program.ts';

/** Exit code of a program that writes to a closed pipe, as shells have it: 128 + SIGPIPE. */
const BROKEN_PIPE = 141;

// Nobody reads on, as in "nex logs | head".
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(BROKEN_PIPE);
});
process.exitCode = await run(process.argv.slice(2));
