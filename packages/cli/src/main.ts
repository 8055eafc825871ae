import { VERSION } from './version.ts';

/** Exit code of a program that writes to a closed pipe, as shells have it: 128 + SIGPIPE. */
const BROKEN_PIPE = 141;

/** How long what is still open may hold the process when the command has ended. */
const LINGER_MS = 100;

// Nobody reads on, as in "nex logs | head".
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A command that has something to stop first listens itself.
  if (process.stdout.listenerCount('error') > 1) return;
  if (error.code !== 'EPIPE') throw error;
  process.exit(BROKEN_PIPE);
});
const argv = process.argv.slice(2);
if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
  // Scripts ask this often: it does not load the rest.
  process.stdout.write(`${VERSION}\n`);
} else {
  const { run } = await import('./program.ts');
  process.exitCode = await run(argv);
  // The NATS client cannot give up a dial: a server that takes a connection and says nothing would hold the process.
  setTimeout(() => process.exit(), LINGER_MS).unref();
}
