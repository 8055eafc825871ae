import { endOnBrokenPipe } from './broken-pipe.ts';
import { VERSION } from './version.ts';

/** How long what is still open may hold the process when the command has ended. */
const LINGER_MS = 100;

endOnBrokenPipe();
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
